#include "sandbox/local/exit_watch.h"

#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/utsname.h>

#include <charconv>

#include "base/log.h"
#include "host/files.h"
#include "host/process.h"

namespace caisson::sandbox::local {
namespace {

// Field 52 of /proc/<pid>/stat, exit_code, of a process that nobody has reaped yet. The pidfd has told that it has ended, so if there is a
// zombie of that number it is the one.
Result<int> zombie_status(pid_t pid) {
  const std::string text = TRY(host::read_file(fmt::format("/proc/{}/stat", pid), 4096));
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos || text.compare(name_end, 3, ") Z") != 0) return make_error(ESRCH, "process {} is no zombie", pid);
  const size_t last = text.find_last_of(' ');
  int status = 0;
  const auto parsed = std::from_chars(text.data() + last + 1, text.data() + text.size(), status);
  if (parsed.ec != std::errc()) return make_error(EIO, "/proc/{}/stat has an unknown form", pid);
  return status;
}

}  // namespace

bool sibling_status_supported() {
  static const bool supported = [] {
    utsname name{};
    int major = 0, minor = 0;
    if (uname(&name) != 0 || sscanf(name.release, "%d.%d", &major, &minor) != 2) return false;
    return major > 6 || (major == 6 && minor >= 15);
  }();
  return supported;
}

Result<void> watch_child_exit(host::EventLoop& loop, pid_t pid, std::function<void(int)> ended) {
  return loop.watch_child(pid, std::move(ended));
}

Result<void> watch_sibling_exit(host::EventLoop& loop, int pidfd, pid_t pid, std::function<void(int)> ended) {
  return loop.add(pidfd, EPOLLIN, [&loop, pidfd, pid, ended = std::move(ended)](uint32_t) {
    loop.remove(pidfd);
    // Reaped already, or still a zombie, which may be reaped between the two questions.
    std::optional<int> status = host::exit_status(pidfd);
    if (!status) {
      if (auto zombie = zombie_status(pid)) status = *zombie;
    }
    if (!status) status = host::exit_status(pidfd);
    if (!status) log::error("the exit status of process {} is lost; it counts as killed", pid);
    ended(status.value_or(SIGKILL));
  });
}

}  // namespace caisson::sandbox::local
