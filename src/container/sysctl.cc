#include "container/sysctl.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <unistd.h>

#include <algorithm>

#include "host/files.h"
#include "host/mount.h"
#include "host/namespaces.h"

namespace caisson::container {
namespace {

constexpr std::string_view kIpc[] = {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
                                     "kernel.msg_next_id", "kernel.sem_next_id", "kernel.shm_next_id", "kernel.auto_msgmni"};

// "net.ipv4.conf.eth0/1.forwarding" has the dots and slashes exchanged where a name holds a dot: sysctl(8). Gives the dotted form's path.
std::string file_of(const std::string& key) {
  std::string path = key;
  const size_t first = path.find_first_of("./");
  const bool slashes = first != std::string::npos && path[first] == '/';
  if (!slashes)
    std::transform(path.begin(), path.end(), path.begin(), [](char letter) { return letter == '.' ? '/' : letter == '/' ? '.' : letter; });
  return path;
}

// The network namespace that would be joined must not be the host's own.
Result<bool> has_own(const oci::Spec& spec, const char* type) {
  const oci::Namespace* ns = spec.find_namespace(type);
  if (ns == nullptr) return false;
  if (ns->path.empty()) return true;
  const host::NamespaceType& row = *host::find_namespace_type(type);
  const UniqueFd joined = TRY(host::open_namespace(row, ns->path));
  const UniqueFd own = TRY(host::own_namespace(row));
  return !TRY(host::same_namespace(joined.get(), own.get()));
}

Result<void> check(const oci::Spec& spec, const std::string& key) {
  std::string name = file_of(key);
  std::replace(name.begin(), name.end(), '/', '.');
  if (("/" + file_of(key) + "/").find("/../") != std::string::npos) return make_error(EINVAL, "linux.sysctl: \"{}\" is not a kernel parameter", key);
  const char* type = nullptr;
  if (name.starts_with("net.")) type = "network";
  else if (name.starts_with("fs.mqueue.") || std::find(std::begin(kIpc), std::end(kIpc), name) != std::end(kIpc)) type = "ipc";
  else if (name == "kernel.domainname") type = "uts";
  else if (name.starts_with("user.")) type = "user";
  else if (name == "kernel.hostname") return make_error(EINVAL, "linux.sysctl: kernel.hostname is what \"hostname\" is for");
  else return make_error(EINVAL, "linux.sysctl: \"{}\" belongs to no namespace; setting it would change the whole machine", key);
  if (!TRY(has_own(spec, type))) return make_error(EINVAL, "linux.sysctl: \"{}\" needs a {} namespace of the container's own in linux.namespaces", key, type);
  return {};
}

}  // namespace

Result<void> check_sysctls(const oci::Spec& spec) {
  for (const auto& [key, value] : spec.linux_.sysctl) TRY(check(spec, key));
  return {};
}

Result<void> apply_sysctls(const oci::Spec& spec) {
  if (spec.linux_.sysctl.empty()) return {};
  const UniqueFd folder(open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return errno_error("linux.sysctl: cannot open /proc/sys");
  if (TRY(host::filesystem_magic(folder.get())) != PROC_SUPER_MAGIC) return make_error(EINVAL, "linux.sysctl: /proc is not a real one");
  for (const auto& [key, value] : spec.linux_.sysctl) {
    const UniqueFd file(openat(folder.get(), file_of(key).c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file) return errno_error("linux.sysctl: cannot open {}", key);
    auto written = host::write_all(file.get(), value);
    if (!written) return std::move(written).error().within(fmt::format("linux.sysctl: cannot set {} to \"{}\"", key, value));
  }
  return {};
}

}  // namespace caisson::container
