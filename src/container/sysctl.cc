#include "container/sysctl.h"

#include <fcntl.h>
#include <linux/magic.h>

#include "host/files.h"
#include "host/mount.h"
#include "host/namespaces.h"
#include "oci/parse.h"

namespace caisson::container {
namespace {

const char* namespace_of(std::string_view path) {
  if (path.starts_with("net/")) return "network";
  return path == "kernel/domainname" ? "uts" : "ipc";
}

// A namespace that is joined may be the one that the runtime itself is in.
Result<bool> has_own(const oci::Spec& spec, const char* type, bool in_guest) {
  const oci::Namespace* ns = spec.find_namespace(type);
  if (ns == nullptr) return false;
  if (ns->path.empty() || (in_guest && ns->type == "network")) return true;
  const host::NamespaceType& row = *host::find_namespace_type(type);
  const UniqueFd joined = TRY(host::open_namespace(row, ns->path));
  const UniqueFd own = TRY(host::own_namespace(row));
  return !TRY(host::same_namespace(joined.get(), own.get()));
}

}  // namespace

Result<void> check_sysctls(const oci::Spec& spec, bool in_guest) {
  for (const auto& [key, value] : spec.linux_.sysctl) {
    const char* type = namespace_of(oci::sysctl_path(key));
    if (!TRY(has_own(spec, type, in_guest)))
      return make_error(
          EINVAL, "linux.sysctl: \"{}\" needs a {} namespace of the container's own: the one in linux.namespaces is the host's", key, type);
  }
  return {};
}

Result<void> apply_sysctls(const oci::Spec& spec) {
  if (spec.linux_.sysctl.empty()) return {};
  const UniqueFd folder(open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return errno_error("linux.sysctl: cannot open /proc/sys");
  if (TRY(host::filesystem_magic(folder.get())) != PROC_SUPER_MAGIC) return make_error(EINVAL, "linux.sysctl: /proc is not a real one");
  for (const auto& [key, value] : spec.linux_.sysctl) {
    const UniqueFd file(openat(folder.get(), oci::sysctl_path(key).c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file) return errno_error("linux.sysctl: cannot open {}", key);
    auto written = host::write_all(file.get(), value);
    if (!written) return std::move(written).error().within(fmt::format("linux.sysctl: cannot set {} to \"{}\"", key, value));
  }
  return {};
}

}  // namespace caisson::container
