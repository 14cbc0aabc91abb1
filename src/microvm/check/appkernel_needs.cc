#include "microvm/check/appkernel_needs.h"

#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <charconv>
#include <cstdint>

namespace caisson::microvm {

bool is_release_at_least(std::string_view release, int major, int minor) {
  int has_major = -1, has_minor = -1;
  const char* end = release.data() + release.size();
  const auto first = std::from_chars(release.data(), end, has_major);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '.') return false;
  if (std::from_chars(first.ptr + 1, end, has_minor).ec != std::errc()) return false;
  return has_major > major || (has_major == major && has_minor >= minor);
}

Result<void> check_appkernel_needs() {
  utsname host{};
  if (uname(&host) != 0) return errno_error("cannot read this machine's kernel release");
  if (!is_release_at_least(host.release, 5, 12))
    return make_error(ENOSYS, "the application kernel needs Linux 5.12 or later, and this is {}", host.release);
  if (geteuid() != 0) return make_error(EPERM, "the application kernel needs root");
  const uint32_t action = SECCOMP_RET_TRAP;
  if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) != 0)
    return errno_error("the application kernel needs seccomp filters of this machine's kernel");
  return {};
}

}  // namespace caisson::microvm
