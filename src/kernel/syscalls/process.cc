// Processes and threads: clone, exec, exit, wait, ids, groups and sessions, prctl.
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>

#include "kernel/event/pidfd.h"
#include "kernel/fs/cgroup/cgroup_fs.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/signal/send.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/seccomp.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/answers.h"
#include "kernel/task/clone.h"
#include "kernel/task/exec.h"
#include "kernel/task/exit.h"
#include "kernel/task/kernel.h"
#include "kernel/trace/exit_stop.h"
#include "kernel/trace/trace.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

Result<long> sys_getpid(Task& task) { return task.group->pid; }
Result<long> sys_gettid(Task& task) { return task.tid; }

Result<long> sys_getppid(Task& task) {
  std::lock_guard guard(task.kernel.tasks);
  return parent_number_locked(*task.group);
}

Result<long> sys_clone(Task& task, unsigned long flags, unsigned long stack, UserPtr<pid_t> parent_tid, UserPtr<pid_t> child_tid,
                       unsigned long tls) {
  CloneRequest request;
  request.flags = flags & ~static_cast<uint64_t>(CSIGNAL) & 0xffffffff;
  request.exit_signal = static_cast<int>(flags & CSIGNAL);
  request.stack = stack;
  request.parent_tid = parent_tid.address();
  request.child_tid = child_tid.address();
  request.tls = tls;
  request.pidfd = parent_tid.address();
  return clone_task(task, request);
}

constexpr uint64_t kIntoCgroup = 0x200000000ULL;  // CLONE_INTO_CGROUP

Result<long> sys_clone3(Task& task, UserPtr<void> arguments, unsigned long size) {
  struct {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
  } a{};
  if (size < 64) return Errno(EINVAL);
  if (size > sizeof a) {
    // Newer callers: what we do not know must be zero.
    if (size > 4096) return Errno(E2BIG);
    std::vector<char> rest(size - sizeof a);
    TRY(task.read_bytes(arguments.address() + sizeof a, rest.data(), rest.size()));
    if (std::any_of(rest.begin(), rest.end(), [](char byte) { return byte != 0; })) return Errno(E2BIG);
  }
  TRY(task.read_bytes(arguments.address(), &a, std::min<unsigned long>(size, sizeof a)));
  if ((a.flags & (CSIGNAL | CLONE_DETACHED)) != 0 || a.exit_signal > 64) return Errno(EINVAL);
  if ((a.stack == 0) != (a.stack_size == 0)) return Errno(EINVAL);
  if (a.set_tid_size != 0) return Errno(EPERM);
  CloneRequest request;
  if ((a.flags & kIntoCgroup) != 0) {
    if (a.cgroup > INT_MAX || size < sizeof a) return Errno(EINVAL);
    request.cgroup = cgroup_of_folder(*TRY(task.fds->get(static_cast<int>(a.cgroup))));
    if (!request.cgroup) return Errno(EBADF);
    // Threads of a process are in one group.
    if ((a.flags & CLONE_THREAD) != 0) return Errno(EOPNOTSUPP);
  }
  request.flags = a.flags;
  request.exit_signal = static_cast<int>(a.exit_signal);
  request.stack = a.stack == 0 ? 0 : a.stack + a.stack_size;
  request.parent_tid = a.parent_tid;
  request.child_tid = a.child_tid;
  request.tls = a.tls;
  request.pidfd = a.pidfd;
  return clone_task(task, request);
}

Result<long> sys_fork(Task& task) { return clone_task(task, {.exit_signal = SIGCHLD}); }
Result<long> sys_vfork(Task& task) { return clone_task(task, {.flags = CLONE_VM | CLONE_VFORK, .exit_signal = SIGCHLD}); }

Result<long> execute(Task& task, int dirfd, UserPtr<const char> path, UserPtr<const uint64_t> argv, UserPtr<const uint64_t> envp,
                     int flags) {
  constexpr size_t kMostBytes = 2 << 20;
  if ((flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) != 0) return Errno(EINVAL);
  ExecRequest request;
  request.path = TRY(task.read_string(path));
  request.arguments = TRY(task.read_strings(argv, kMostBytes));
  request.environment = TRY(task.read_strings(envp, kMostBytes));
  const unsigned walk_flags =
      ((flags & AT_EMPTY_PATH) != 0 ? kWalkEmptyPath : 0) | ((flags & AT_SYMLINK_NOFOLLOW) != 0 ? kWalkNoFollow : 0);
  request.file = TRY(open_program(task, dirfd, request.path, walk_flags));
  if (dirfd != AT_FDCWD && !request.path.starts_with('/'))
    request.path = "/dev/fd/" + std::to_string(dirfd) + (request.path.empty() ? "" : "/" + request.path);
  TRY(exec_program(task, std::move(request)));
  trace_exec(task);
  return 0L;
}

Result<long> sys_execve(Task& task, UserPtr<const char> path, UserPtr<const uint64_t> argv, UserPtr<const uint64_t> envp) {
  return execute(task, AT_FDCWD, path, argv, envp, 0);
}
Result<long> sys_execveat(Task& task, Fd dirfd, UserPtr<const char> path, UserPtr<const uint64_t> argv, UserPtr<const uint64_t> envp,
                          int flags) {
  return execute(task, number(dirfd), path, argv, envp, flags);
}

Result<long> sys_exit(Task& task, int status) {
  {
    std::unique_lock lock(task.kernel.tasks);
    trace_exit_locked(task, lock, (status & 0xff) << 8);
  }
  task.exit_status = status & 0xff;
  task.leaving = true;
  return 0L;
}

Result<long> sys_exit_group(Task& task, int status) {
  std::unique_lock lock(task.kernel.tasks);
  trace_exit_locked(task, lock, (status & 0xff) << 8);
  end_group_locked(*task.group, CLD_EXITED, status & 0xff);
  return 0L;
}

void fill_usage(rusage& to, const ThreadGroup::Usage& from) {
  to = {};
  to.ru_utime = {from.user_ns / 1'000'000'000, from.user_ns % 1'000'000'000 / 1000};
  to.ru_stime = {from.system_ns / 1'000'000'000, from.system_ns % 1'000'000'000 / 1000};
  to.ru_maxrss = from.max_rss_kib;
  to.ru_minflt = from.minor_faults;
  to.ru_majflt = from.major_faults;
}

Result<long> sys_wait4(Task& task, int pid, UserPtr<int> status, int options, UserPtr<rusage> usage) {
  if ((options & ~(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL)) != 0) return Errno(EINVAL);
  WaitRequest request;
  request.pid = pid;
  request.options = static_cast<unsigned>(options) | WEXITED;
  const Waited waited = TRY(wait_for_child(task, request));
  if (waited.pid == 0) return 0L;
  if (status) TRY(task.write(status, waited.status.encoded()));
  if (usage) {
    rusage value;
    fill_usage(value, waited.usage);
    TRY(task.write(usage, value));
  }
  return waited.pid;
}

Result<long> sys_waitid(Task& task, int type, int id, UserPtr<abi::SigInfo> info, int options, UserPtr<rusage> usage) {
  if ((options & ~(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL)) != 0) return Errno(EINVAL);
  if ((options & (WEXITED | WSTOPPED | WCONTINUED)) == 0) return Errno(EINVAL);
  WaitRequest request;
  bool not_yet = false;  // of a pidfd with O_NONBLOCK
  request.options = static_cast<unsigned>(options);
  switch (type) {
    case P_ALL:
      request.pid = -1;
      break;
    case P_PID:
      if (id <= 0) return Errno(EINVAL);
      request.pid = id;
      break;
    case P_PGID:
      if (id < 0) return Errno(EINVAL);
      request.pid = id == 0 ? 0 : -static_cast<int64_t>(id);
      break;
    case P_PIDFD: {
      const auto pidfd = TRY(file_as<PidFd>(task, static_cast<Fd>(id), EBADF));
      request.pid = number_in(pidfd->group()->id, *task.group->pids);
      if (request.pid == 0) return Errno(ECHILD);
      not_yet = pidfd->nonblocking() && (options & WNOHANG) == 0;
      break;
    }
    default:
      return Errno(EINVAL);
  }
  if (not_yet) request.options |= WNOHANG;
  const Waited waited = TRY(wait_for_child(task, request));
  if (not_yet && waited.pid == 0) return Errno(EAGAIN);
  if (usage && waited.pid != 0) {
    rusage value;
    fill_usage(value, waited.usage);
    TRY(task.write(usage, value));
  }
  if (info) {
    abi::SigInfo value;
    if (waited.pid != 0) {
      value.signo = SIGCHLD;
      value.code = waited.status.code;
      value.child.pid = waited.pid;
      value.child.uid = waited.uid;
      value.child.status = waited.status.status;
    }
    TRY(task.write(info, value));
  }
  return 0L;
}

Result<long> sys_getrusage(Task& task, int who, UserPtr<rusage> to) {
  ThreadGroup::Usage usage;
  if (who != RUSAGE_SELF && who != RUSAGE_CHILDREN && who != RUSAGE_THREAD) return Errno(EINVAL);
  {
    std::lock_guard guard(task.kernel.tasks);
    usage = who == RUSAGE_CHILDREN ? task.group->children_usage : task.group->usage;
  }
  if (who != RUSAGE_CHILDREN) {
    // The host's clock of the stub process (or thread): user and system are not told apart here.
    const pid_t host = who == RUSAGE_THREAD ? task.host_tid() : task.stub->process()->pid();
    const clockid_t clock = static_cast<clockid_t>(~host << 3) | (who == RUSAGE_THREAD ? 4 | 2 : 2);
    timespec used{};
    if (clock_gettime(clock, &used) == 0) usage.user_ns += used.tv_sec * 1'000'000'000L + used.tv_nsec;
  }
  rusage value;
  fill_usage(value, usage);
  TRY(task.write(to, value));
  return 0L;
}

// The process with this id, or our own for 0. ESRCH.
Result<std::shared_ptr<ThreadGroup>> find_group_locked(Task& task, pid_t pid) {
  if (pid == 0) return task.group;
  const auto found = task.group->pids->groups.find(pid);
  if (found == task.group->pids->groups.end()) return Errno(ESRCH);
  return found->second;
}

Result<long> sys_setpgid(Task& task, int pid, int pgid) {
  if (pgid < 0) return Errno(EINVAL);
  std::lock_guard guard(task.kernel.tasks);
  const std::shared_ptr<ThreadGroup> group = TRY(find_group_locked(task, pid));
  if (group != task.group && group->parent.lock() != task.group) return Errno(ESRCH);
  if (group->sid != task.group->sid) return Errno(EPERM);
  if (group != task.group && group->has_executed) return Errno(EACCES);
  if (group->sid == group->id) return Errno(EPERM);
  const PidNamespace& ours = *task.group->pids;
  TaskIdRef wanted = group->id;
  if (pgid != 0 && pgid != group->id->in(ours)) {
    wanted.reset();
    for (const auto& [id, other] : ours.groups)
      if (number_in(other->pgid, ours) == pgid && other->sid == task.group->sid) wanted = other->pgid;
    if (!wanted) return Errno(EPERM);
  }
  group->pgid = wanted;
  return 0L;
}

Result<long> sys_getpgid(Task& task, int pid) {
  std::lock_guard guard(task.kernel.tasks);
  return number_in(TRY(find_group_locked(task, pid))->pgid, *task.group->pids);
}
Result<long> sys_getpgrp(Task& task) { return sys_getpgid(task, 0); }
Result<long> sys_getsid(Task& task, int pid) {
  std::lock_guard guard(task.kernel.tasks);
  return number_in(TRY(find_group_locked(task, pid))->sid, *task.group->pids);
}

Result<long> sys_setsid(Task& task) {
  std::lock_guard guard(task.kernel.tasks);
  ThreadGroup& group = *task.group;
  for (const auto& [id, other] : group.pids->groups)
    if (other->pgid == group.id) return Errno(EPERM);
  group.sid = group.pgid = group.id;
  group.terminal.reset();
  return group.pid;
}

Result<long> sys_set_tid_address(Task& task, UserPtr<int> address) {
  // The host clears it when the host thread ends, as Linux does for a thread of its own.
  (void)task.stub->run_one({SYS_set_tid_address, {address.address()}});
  return task.tid;
}

// What Kernel::tasks guards of the task's process.
template <typename T>
T of_group(Task& task, T ThreadGroup::*member) {
  std::lock_guard guard(task.kernel.tasks);
  return *task.group.*member;
}

Result<long> sys_prctl(Task& task, int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
  switch (option) {
    case PR_SET_NAME: {
      char name[16] = {};
      for (size_t i = 0; i < 15; ++i) {
        name[i] = TRY(task.read(UserPtr<char>(a + i)));
        if (name[i] == 0) break;
      }
      std::lock_guard guard(task.kernel.tasks);
      task.name = name;
      return 0L;
    }
    case PR_GET_NAME: {
      char name[16] = {};
      {
        std::lock_guard guard(task.kernel.tasks);
        strncpy(name, task.name.c_str(), 15);
      }
      TRY(task.write_bytes(a, name, sizeof name));
      return 0L;
    }
    case PR_SET_PDEATHSIG: {
      if (a > 64) return Errno(EINVAL);
      std::lock_guard guard(task.kernel.tasks);
      task.group->parent_death_signal = static_cast<int>(a);
      return 0L;
    }
    case PR_GET_PDEATHSIG:
      TRY(task.write(UserPtr<int>(a), of_group(task, &ThreadGroup::parent_death_signal)));
      return 0L;
    case PR_SET_DUMPABLE: {
      if (a > 1) return Errno(EINVAL);
      std::lock_guard guard(task.kernel.tasks);
      task.group->dumpable = a == 1;
      return 0L;
    }
    case PR_GET_DUMPABLE:
      return of_group(task, &ThreadGroup::dumpable) ? 1 : 0;
    case PR_SET_CHILD_SUBREAPER: {
      std::lock_guard guard(task.kernel.tasks);
      task.group->child_subreaper = a != 0;
      return 0L;
    }
    case PR_GET_CHILD_SUBREAPER:
      TRY(task.write(UserPtr<int>(a), of_group(task, &ThreadGroup::child_subreaper) ? 1 : 0));
      return 0L;
    case PR_SET_NO_NEW_PRIVS: {
      if (a != 1 || b != 0 || c != 0 || d != 0) return Errno(EINVAL);
      auto creds = std::make_shared<Credentials>(*task.creds);
      creds->no_new_privileges = true;
      std::lock_guard guard(task.kernel.tasks);
      task.creds = std::move(creds);
      return 0L;
    }
    case PR_GET_NO_NEW_PRIVS:
      return task.creds->no_new_privileges ? 1 : 0;
    case PR_CAPBSET_READ:
      if (a > 40) return Errno(EINVAL);
      return static_cast<long>(task.creds->bounding >> a & 1);
    case PR_CAPBSET_DROP: {
      if (a > 40) return Errno(EINVAL);
      if (!task.creds->has_own(kCapSetpcap)) return Errno(EPERM);
      auto creds = std::make_shared<Credentials>(*task.creds);
      creds->bounding &= ~(1ULL << a);
      std::lock_guard guard(task.kernel.tasks);
      task.creds = std::move(creds);
      return 0L;
    }
    case PR_CAP_AMBIENT: {
      if (a == PR_CAP_AMBIENT_IS_SET)
        return b > 40 ? Result<long>(Errno(EINVAL)) : Result<long>(static_cast<long>(task.creds->ambient >> b & 1));
      auto creds = std::make_shared<Credentials>(*task.creds);
      if (a == PR_CAP_AMBIENT_CLEAR_ALL)
        creds->ambient = 0;
      else if (b > 40)
        return Errno(EINVAL);
      else if (a == PR_CAP_AMBIENT_LOWER)
        creds->ambient &= ~(1ULL << b);
      else if (a == PR_CAP_AMBIENT_RAISE) {
        if ((creds->permitted & creds->inheritable & 1ULL << b) == 0) return Errno(EPERM);
        creds->ambient |= 1ULL << b;
      } else
        return Errno(EINVAL);
      std::lock_guard guard(task.kernel.tasks);
      task.creds = std::move(creds);
      return 0L;
    }
    case PR_GET_SECUREBITS:
      return static_cast<long>(task.creds->secure_bits);
    case PR_SET_SECUREBITS: {
      if (!task.creds->has_own(kCapSetpcap)) return Errno(EPERM);
      auto creds = std::make_shared<Credentials>(*task.creds);
      creds->secure_bits = static_cast<uint32_t>(a);
      std::lock_guard guard(task.kernel.tasks);
      task.creds = std::move(creds);
      return 0L;
    }
    case PR_SET_KEEPCAPS: {
      auto creds = std::make_shared<Credentials>(*task.creds);
      creds->secure_bits = a != 0 ? creds->secure_bits | 0x10 : creds->secure_bits & ~0x10U;
      std::lock_guard guard(task.kernel.tasks);
      task.creds = std::move(creds);
      return 0L;
    }
    case PR_GET_KEEPCAPS:
      return task.creds->secure_bits >> 4 & 1;
    case PR_SET_TIMERSLACK:
      return 0L;
    case PR_GET_TIMERSLACK:
      return 50000L;
    case PR_GET_SECCOMP:
      return seccomp_mode(task);
    case PR_SET_SECCOMP:
      return set_seccomp_mode(task, a, b);
    case PR_SET_THP_DISABLE:
      return 0L;
    case PR_SET_VMA:
      return Errno(EINVAL);
    default:
      return Errno(EINVAL);
  }
}

}  // namespace

std::span<const SyscallRow> process_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(getpid, 39, Full, ""),
      SYSCALL(gettid, 186, Full, ""),
      SYSCALL(getppid, 110, Full, ""),
      SYSCALL(clone, 56, Partial, "no CLONE_PTRACE"),
      SYSCALL(clone3, 435, Partial, "no time namespaces, no set_tid"),
      SYSCALL(fork, 57, Full, ""),
      SYSCALL(vfork, 58, Full, ""),
      SYSCALL(execve, 59, Partial, "no binfmt_misc, no 32-bit programs"),
      SYSCALL(execveat, 322, Partial, "as execve"),
      SYSCALL(exit, 60, Full, ""),
      SYSCALL(exit_group, 231, Full, ""),
      SYSCALL(wait4, 61, Full, ""),
      SYSCALL(waitid, 247, Full, ""),
      SYSCALL(getrusage, 98, Partial, "user and system time of the running process are one figure"),
      SYSCALL(setpgid, 109, Full, ""),
      SYSCALL(getpgid, 121, Full, ""),
      SYSCALL(getpgrp, 111, Full, ""),
      SYSCALL(getsid, 124, Full, ""),
      SYSCALL(setsid, 112, Full, ""),
      SYSCALL(set_tid_address, 218, Full, ""),
      SYSCALL(prctl, 157, Partial, "names, death signals, dumpable, subreaper, capabilities, no_new_privs"),
  };
  return rows;
}

}  // namespace caisson::kernel
