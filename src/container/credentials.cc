#include "container/credentials.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "host/files.h"

namespace caisson::container {
namespace {

// Not libcap's cap_set_proc: these are plain masks.
Result<void> set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {
      {static_cast<uint32_t>(effective), static_cast<uint32_t>(permitted), static_cast<uint32_t>(inheritable)},
      {static_cast<uint32_t>(effective >> 32), static_cast<uint32_t>(permitted >> 32), static_cast<uint32_t>(inheritable >> 32)}};
  if (syscall(SYS_capset, &header, data) != 0) return errno_error("process.capabilities: cannot set them");
  return {};
}

uint64_t own_permitted() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) return 0;
  return data[0].permitted | static_cast<uint64_t>(data[1].permitted) << 32;
}

uint64_t own_bounding() {
  uint64_t mask = 0;
  for (int number = 0; number < 64; ++number)
    if (prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1) mask |= 1UL << number;
  return mask;
}

uint64_t mask_of(const std::vector<std::string>& names, uint64_t available, std::vector<std::string>& refused) {
  uint64_t mask = 0;
  for (const std::string& name : names) {
    std::string lower = name;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char letter) { return static_cast<char>(tolower(letter)); });
    cap_value_t value = -1;
    const bool known = cap_from_name(lower.c_str(), &value) == 0 && value >= 0 && value < 64;
    if (known && (available >> value & 1) != 0) {
      mask |= 1UL << value;
    } else if (std::find(refused.begin(), refused.end(), name) == refused.end()) {
      refused.push_back(name);
    }
  }
  return mask;
}

Result<void> drop_bounding(uint64_t keep) {
  for (int number = 0; number < 64; ++number) {
    const int present = prctl(PR_CAPBSET_READ, number, 0, 0, 0);
    if (present < 0) break;
    if (present == 1 && (keep >> number & 1) == 0 && prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0)
      return errno_error("process.capabilities.bounding: cannot drop capability {}", number);
  }
  return {};
}

Result<void> raise_ambient(uint64_t mask) {
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return errno_error("process.capabilities.ambient: cannot clear them");
  for (int number = 0; number < 64; ++number)
    if ((mask >> number & 1) != 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) != 0)
      log::warning("process.capabilities.ambient: capability {} cannot be raised: it has to be permitted and inheritable too", number);
  return {};
}

Result<void> set_ids(const oci::User& user) {
  std::vector<gid_t> groups(user.additional_gids.begin(), user.additional_gids.end());
  if (setgroups(groups.size(), groups.data()) != 0) return errno_error("process.user.additionalGids: cannot set them");
  if (setresgid(user.gid, user.gid, user.gid) != 0) return errno_error("process.user.gid: cannot become group {}", user.gid);
  if (setresuid(user.uid, user.uid, user.uid) != 0) return errno_error("process.user.uid: cannot become user {}", user.uid);
  return {};
}

// CVE-2024-21626: a working directory such as /proc/self/fd/7 can be a folder of the host's. getcwd(2) tells: for what cannot be reached
// from the root its answer does not start with "/".
Result<void> check_inside(const std::string& cwd) {
  char path[PATH_MAX];
  const long length = syscall(SYS_getcwd, path, sizeof path);
  if (length > 0 && path[0] == '/') return {};
  if (length < 0)
    return errno_error(
        "process.cwd: cannot tell whether {} is inside the container's root file system: getcwd(2) failed (linux.seccomp must "
        "allow it)",
        cwd);
  return make_error(EPERM, "process.cwd: {} is outside the container's root file system", cwd);
}

}  // namespace

CapabilitySets capability_sets(const oci::Process& process) {
  CapabilitySets sets;
  if (!process.capabilities) return sets;
  std::vector<std::string> refused;
  const uint64_t available = own_bounding() & own_permitted();
  sets.bounding = mask_of(process.capabilities->bounding, available, refused);
  sets.effective = mask_of(process.capabilities->effective, available, refused);
  sets.permitted = mask_of(process.capabilities->permitted, available, refused);
  sets.inheritable = mask_of(process.capabilities->inheritable, available, refused);
  sets.ambient = mask_of(process.capabilities->ambient, available, refused);
  if (!refused.empty()) log::warning("process.capabilities: unknown or not available here, and left out: {}", fmt::join(refused, ", "));
  return sets;
}

Result<void> become_user(const oci::Process& process, const CapabilitySets& sets) {
  const uint64_t all = own_permitted();
  TRY(drop_bounding(sets.bounding));
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) return errno_error("cannot keep capabilities over the change of user");
  TRY(set_ids(process.user));
  // The change of user has cleared the effective set; what follows needs it.
  TRY(set_capabilities(all, all, sets.inheritable));
  if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0) return errno_error("cannot stop keeping capabilities");
  TRY(set_capabilities(sets.effective, sets.permitted, sets.inheritable));
  return raise_ambient(sets.ambient);
}

bool try_working_directory(const oci::Process& process) { return !process.cwd.empty() && chdir(process.cwd.c_str()) == 0; }

Result<void> enter_working_directory(const oci::Process& process, bool entered) {
  if (process.cwd.empty()) return make_error(EINVAL, "process.cwd: must be set");
  if (!entered && chdir(process.cwd.c_str()) != 0) return errno_error("process.cwd: cannot enter {}", process.cwd);
  return check_inside(process.cwd);
}

Result<void> become_namespace_root() {
  if (setgroups(0, nullptr) != 0 && errno != EPERM) return errno_error("linux.gidMappings: cannot drop groups in the user namespace");
  if (setresgid(0, 0, 0) != 0) return errno_error("linux.gidMappings: cannot become group 0 of the user namespace (is 0 mapped?)");
  if (setresuid(0, 0, 0) != 0) return errno_error("linux.uidMappings: cannot become user 0 of the user namespace (is 0 mapped?)");
  return {};
}

std::string home_folder(uint32_t uid) {
  const UniqueFd file(open("/etc/passwd", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat info;
  if (!file || fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return "/";
  auto text = host::read_descriptor(file.get(), 4 << 20);
  if (!text) return "/";
  const std::string wanted = std::to_string(uid);
  for (size_t start = 0; start < text->size();) {
    const size_t end = std::min(text->find('\n', start), text->size());
    std::vector<std::string> fields;
    for (size_t at = start; at <= end;) {
      const size_t colon = std::min(text->find(':', at), end);
      fields.push_back(text->substr(at, colon - at));
      at = colon + 1;
    }
    if (fields.size() >= 6 && fields[2] == wanted && !fields[5].empty()) return fields[5];
    start = end + 1;
  }
  return "/";
}

}  // namespace caisson::container
