#include "container/listener.h"

#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <string_view>

#include "host/process.h"

namespace caisson::container {
namespace {

bool is_listener(int fd) {
  char target[PATH_MAX];
  const ssize_t length = readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), target, sizeof target);
  return length > 0 && std::string_view(target, static_cast<size_t>(length)) == "anon_inode:seccomp notify";
}

}  // namespace

Result<UniqueFd> fetch_listener(int pidfd, int number) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (std::chrono::steady_clock::now() < deadline) {
    UniqueFd fd(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, number, 0)));
    if (fd && is_listener(fd.get())) return fd;
    if (!fd && errno != EBADF) return errno_error("linux.seccomp: cannot take the listener from the container's process");
    if (host::wait_for_end(pidfd, std::chrono::milliseconds(1)))
      return make_error(ESRCH, "linux.seccomp: the container's process ended before it had its filter");
  }
  return make_error(ETIMEDOUT, "linux.seccomp: the filter's listener did not appear");
}

}  // namespace caisson::container
