#include "container/labels.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>

#include "host/files.h"
#include "host/mount.h"

namespace caisson::container {
namespace {

bool has_apparmor() {
  auto enabled = host::read_file("/sys/module/apparmor/parameters/enabled", 16);
  return enabled && enabled->starts_with('Y');
}

bool has_selinux() {
  struct statfs info;
  return statfs("/sys/fs/selinux", &info) == 0 && static_cast<uint64_t>(info.f_type) == SELINUX_MAGIC;
}

Result<UniqueFd> open_attribute(const char* first, const char* second) {
  UniqueFd fd(::open(first, O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && second != nullptr) fd.reset(::open(second, O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return errno_error("cannot open {}", first);
  if (TRY(host::filesystem_magic(fd.get())) != PROC_SUPER_MAGIC) return make_error(EINVAL, "{} is not in a real /proc", first);
  return fd;
}

}  // namespace

Result<ExecLabels> ExecLabels::open(const oci::Process& process) {
  ExecLabels labels;
  if (!process.apparmor_profile.empty()) {
    if (!has_apparmor())
      return make_error(ENOTSUP, "process.apparmorProfile: profile \"{}\" is asked for, but this kernel has no AppArmor",
                        process.apparmor_profile);
    labels.apparmor_ = TRY(open_attribute("/proc/thread-self/attr/apparmor/exec", "/proc/thread-self/attr/exec"));
    labels.apparmor_text_ = "exec " + process.apparmor_profile;
  }
  if (!process.selinux_label.empty()) {
    if (!has_selinux())
      return make_error(ENOTSUP, "process.selinuxLabel: label \"{}\" is asked for, but this kernel has no SELinux", process.selinux_label);
    labels.selinux_ = TRY(open_attribute("/proc/thread-self/attr/exec", nullptr));
    labels.selinux_text_ = process.selinux_label;
  }
  return labels;
}

Result<void> ExecLabels::apply() {
  if (apparmor_) {
    auto done = host::write_all(apparmor_.get(), apparmor_text_);
    if (!done) return std::move(done).error().within("process.apparmorProfile");
  }
  if (selinux_) {
    auto done = host::write_all(selinux_.get(), selinux_text_);
    if (!done) return std::move(done).error().within("process.selinuxLabel");
  }
  return {};
}

Result<void> add_mount_label(const std::string& label, std::vector<std::string>& parameters) {
  if (!has_selinux()) return make_error(ENOTSUP, "linux.mountLabel: label \"{}\" is asked for, but this kernel has no SELinux", label);
  parameters.push_back("context=" + label);
  return {};
}

}  // namespace caisson::container
