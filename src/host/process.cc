#include "host/process.h"

#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>

#include "host/files.h"

namespace caisson::host {
namespace {

// linux/pidfd.h of 6.15; the headers here are older. Only the members up to exit_code are of interest, but the kernel wants at least the
// first published size.
struct PidfdInfo {
  uint64_t mask;
  uint64_t cgroupid;
  uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
constexpr uint64_t kPidfdInfoExit = 1 << 3;
#define CAISSON_PIDFD_GET_INFO _IOWR(0xFF, 11, PidfdInfo)

// The fields of /proc/<pid>/stat after the command's name, which may itself hold blanks and parentheses. [0] is field 3.
Result<std::string> stat_fields(pid_t pid) {
  auto text = read_file(fmt::format("/proc/{}/stat", pid), 4096);
  if (!text) return make_error(ESRCH, "there is no process {}", pid);
  const size_t end = text->rfind(')');
  if (end == std::string::npos || end + 2 >= text->size()) return make_error(EIO, "/proc/{}/stat has an unknown form", pid);
  return text->substr(end + 2);
}

}  // namespace

Result<Cloned> clone_process(uint64_t flags, int cgroup) {
  int pidfd = -1;
  clone_args args{};
  args.flags = flags | CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = (flags & CLONE_PARENT) != 0 ? 0 : SIGCHLD;
  if (cgroup >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(cgroup);
  }
  long pid = syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0 && cgroup >= 0) {
    args.flags &= ~CLONE_INTO_CGROUP;
    pid = syscall(SYS_clone3, &args, sizeof args);
  }
  if (pid < 0) return errno_error("cannot make a process (clone3, flags {:#x})", flags);
  Cloned cloned;
  cloned.pid = static_cast<pid_t>(pid);
  if (pid != 0) cloned.pidfd.reset(pidfd);
  return cloned;
}

Result<UniqueFd> open_pidfd(pid_t pid) {
  const long fd = syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return errno_error("cannot open process {}", pid);
  return UniqueFd(static_cast<int>(fd));
}

Result<UniqueFd> open_pidfd(pid_t pid, uint64_t start_time) {
  UniqueFd pidfd = TRY(open_pidfd(pid));
  // The descriptor is opened first: the process whose time is read now is the one it names, or that one has ended since.
  if (TRY(process_start_time(pid)) != start_time) return make_error(ESRCH, "process {} has ended and another one has its number", pid);
  return pidfd;
}

Result<void> send_signal(int pidfd, int signal) {
  if (syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) != 0) return errno_error("cannot send signal {}", signal);
  return {};
}

bool wait_for_end(int pidfd, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd entry{.fd = pidfd, .events = POLLIN};
    const int ready = poll(&entry, 1, left > 0 ? static_cast<int>(left) : 0);
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

Result<uint64_t> process_start_time(pid_t pid) {
  const std::string fields = TRY(stat_fields(pid));
  if (fields[0] == 'Z' || fields[0] == 'X') return make_error(ESRCH, "process {} has ended", pid);
  size_t start = 0;
  for (int field = 3; field < 22; ++field) {
    start = fields.find(' ', start);
    if (start == std::string::npos) return make_error(EIO, "/proc/{}/stat has an unknown form", pid);
    ++start;
  }
  uint64_t value = 0;
  const auto parsed = std::from_chars(fields.data() + start, fields.data() + fields.size(), value);
  if (parsed.ec != std::errc()) return make_error(EIO, "/proc/{}/stat has an unknown form", pid);
  return value;
}

Result<char> process_state(pid_t pid) { return TRY(stat_fields(pid))[0]; }

std::optional<int> exit_status(int pidfd) {
  PidfdInfo info{};
  info.mask = kPidfdInfoExit;
  if (ioctl(pidfd, CAISSON_PIDFD_GET_INFO, &info) == 0 && (info.mask & kPidfdInfoExit) != 0) return info.exit_code;
  return std::nullopt;
}

std::string describe_exit(int wait_status) {
  if (WIFSIGNALED(wait_status)) return fmt::format("was killed by signal {} ({})", WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
  return fmt::format("exited with status {}", WEXITSTATUS(wait_status));
}

void reset_signals() {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);  // fails for SIGKILL and SIGSTOP, which have no other
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace caisson::host
