// pidfd_open, pidfd_send_signal, pidfd_getfd.
#include "kernel/event/pidfd.h"

#include "kernel/fs/proc/proc.h"
#include "kernel/signal/send.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {

Events PidFd::poll() {
  std::lock_guard guard(kernel_.tasks);
  return group_->zombie ? POLLIN | POLLRDNORM : 0;
}

namespace {

Result<long> sys_pidfd_open(Task& task, pid_t pid, unsigned flags) {
  if ((flags & ~static_cast<unsigned>(O_NONBLOCK)) != 0 || pid <= 0) return Errno(EINVAL);
  std::shared_ptr<ThreadGroup> group;
  {
    std::lock_guard guard(task.kernel.tasks);
    auto found = task.group->pids->groups.find(pid);
    // A thread's number is none of a process.
    if (found == task.group->pids->groups.end()) return Errno(task.group->pids->tasks.contains(pid) ? EINVAL : ESRCH);
    group = found->second;
  }
  return install(task, std::make_shared<PidFd>(task.kernel, std::move(group), static_cast<int>(flags)), true);
}

Result<long> sys_pidfd_send_signal(Task& task, Fd fd, int signal, UserPtr<const abi::SigInfo> at, unsigned flags) {
  if (flags != 0 || signal < 0 || signal > abi::kSignals) return Errno(EINVAL);
  // Before there were pidfds, a folder of proc served: it still does (pidfd_send_signal(2)).
  const FileRef file = TRY(task.fds->get(number(fd)));
  const auto pidfd = std::dynamic_pointer_cast<PidFd>(file);
  const std::shared_ptr<ThreadGroup> target = pidfd ? pidfd->group() : process_of_folder(*file);
  if (!target) return Errno(EBADF);
  abi::SigInfo info = user_signal(signal, &task);
  if (at) {
    info = TRY(task.read(at));
    if (info.signo != signal) return Errno(EINVAL);
    // Only the kernel says such things; a process may say them to itself.
    if ((info.code >= 0 || info.code == -6 /* SI_TKILL */) && target != task.group) return Errno(EPERM);
  }
  std::lock_guard guard(task.kernel.tasks);
  ThreadGroup& group = *target;
  if (group.zombie && !group.pids->groups.contains(group.pid)) return Errno(ESRCH);
  if (group.zombie) return 0L;
  if (!may_signal(task, group, signal)) return Errno(EPERM);
  send_to_group_locked(group, info);
  return 0L;
}

Result<long> sys_pidfd_getfd(Task& task, Fd fd, int wanted, unsigned flags) {
  if (flags != 0) return Errno(EINVAL);
  const auto pidfd = TRY(file_as<PidFd>(task, fd, EBADF));
  std::shared_ptr<FdTable> table;
  {
    std::lock_guard guard(task.kernel.tasks);
    ThreadGroup& group = *pidfd->group();
    if (group.zombie || group.tasks.empty()) return Errno(ESRCH);
    const Task& other = *group.tasks.front();
    const Credentials& ours = *task.creds;
    const Credentials& theirs = *other.creds;
    const bool same = ours.euid == theirs.uid && ours.euid == theirs.euid && ours.euid == theirs.suid && ours.egid == theirs.gid &&
                      ours.egid == theirs.egid && ours.egid == theirs.sgid && (theirs.permitted & ~ours.permitted) == 0;
    if (&group != task.group.get() && !same && !ours.has_in(*theirs.user, kCapSysPtrace)) return Errno(EPERM);
    table = other.fds;
  }
  if (!table) return Errno(ESRCH);
  return install(task, TRY(table->get(wanted)), true);
}

}  // namespace

std::span<const SyscallRow> pidfd_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(pidfd_send_signal, 424, Full, ""),
      SYSCALL(pidfd_open, 434, Partial, "no PIDFD_THREAD"),
      SYSCALL(pidfd_getfd, 438, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
