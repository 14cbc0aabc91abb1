#include "sandbox/local/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include <algorithm>

#include "base/unique_fd.h"

namespace caisson::sandbox::local {
namespace {

// Unix98 pty slaves (Documentation/admin-guide/devices.txt).
bool is_pty(const struct stat& info) { return S_ISCHR(info.st_mode) && major(info.st_rdev) >= 136 && major(info.st_rdev) <= 143; }

// What the process has there is the container's choice: it is looked at before it is opened, since opening some devices does things.
UniqueFd open_terminal(pid_t pid, int number) {
  UniqueFd path(open(fmt::format("/proc/{}/fd/{}", pid, number).c_str(), O_PATH | O_CLOEXEC));
  struct stat info {};
  if (!path || fstat(path.get(), &info) != 0 || !is_pty(info)) return UniqueFd();
  return UniqueFd(open(fmt::format("/proc/self/fd/{}", path.get()).c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
}

}  // namespace

Result<void> resize_terminal(pid_t pid, uint32_t rows, uint32_t columns) {
  winsize size{};
  size.ws_row = static_cast<unsigned short>(std::min<uint32_t>(rows, 0xffff));
  size.ws_col = static_cast<unsigned short>(std::min<uint32_t>(columns, 0xffff));
  for (int number = 0; number < 3; ++number) {
    const UniqueFd terminal = open_terminal(pid, number);
    if (!terminal) continue;
    if (ioctl(terminal.get(), TIOCSWINSZ, &size) != 0) return errno_error("cannot resize the terminal of process {}", pid);
    return {};
  }
  return make_error(ENOTTY, "process {} has no terminal", pid);
}

}  // namespace caisson::sandbox::local
