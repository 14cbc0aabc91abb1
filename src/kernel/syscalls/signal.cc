// Signals: actions, masks, sending, waiting for them, alternate stacks.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <time.h>

#include "kernel/signal/deliver.h"
#include "kernel/signal/send.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

using abi::SigSet;

Result<void> check_size(unsigned long size) {
  if (size != sizeof(SigSet)) return Errno(EINVAL);
  return {};
}

Result<long> sys_rt_sigaction(Task& task, int signal, UserPtr<const abi::SigAction> action, UserPtr<abi::SigAction> old,
                              unsigned long size) {
  TRY(check_size(size));
  if (signal < 1 || signal > abi::kSignals) return Errno(EINVAL);
  if (action && (abi::sig_bit(signal) & kUnblockable) != 0) return Errno(EINVAL);
  const abi::SigAction before = task.group->handlers->get(signal);
  if (action) {
    const abi::SigAction wanted = TRY(task.read(action));
    std::lock_guard guard(task.kernel.tasks);
    task.group->handlers->set(signal, wanted);
    // What is ignored from now on is not pending any more.
    if (task.group->handlers->ignores(signal)) {
      task.group->pending.drop(abi::sig_bit(signal));
      for (Task* each : task.group->tasks) each->pending.drop(abi::sig_bit(signal));
    }
  }
  if (old) TRY(task.write(old, before));
  return 0L;
}

void set_mask(Task& task, SigSet mask) {
  std::lock_guard guard(task.kernel.tasks);
  task.blocked = mask & ~kUnblockable;
  if (((task.pending.set() | task.group->pending.set()) & ~task.blocked) != 0) task.attention = true;
}

Result<long> sys_rt_sigprocmask(Task& task, int how, UserPtr<const SigSet> set, UserPtr<SigSet> old, unsigned long size) {
  TRY(check_size(size));
  const SigSet before = task.blocked;
  if (set) {
    const SigSet value = TRY(task.read(set));
    switch (how) {
      case SIG_BLOCK:
        set_mask(task, before | value);
        break;
      case SIG_UNBLOCK:
        set_mask(task, before & ~value);
        break;
      case SIG_SETMASK:
        set_mask(task, value);
        break;
      default:
        return Errno(EINVAL);
    }
  }
  if (old) TRY(task.write(old, before));
  return 0L;
}

Result<long> sys_rt_sigpending(Task& task, UserPtr<SigSet> to, unsigned long size) {
  if (size > sizeof(SigSet)) return Errno(EINVAL);
  SigSet pending;
  {
    std::lock_guard guard(task.kernel.tasks);
    pending = (task.pending.set() | task.group->pending.set()) & task.blocked;
  }
  TRY(task.write_bytes(to.address(), &pending, size));
  return 0L;
}

Result<long> sys_rt_sigreturn(Task& task) {
  if (!return_from_signal(task)) {
    abi::SigInfo info = user_signal(SIGSEGV, nullptr);
    force_signal(task, info);
    return static_cast<long>(task.call_registers().rax);
  }
  task.in_syscall = false;  // rax is the interrupted code's own
  return static_cast<long>(task.call_registers().rax);
}

Result<long> sys_rt_sigsuspend(Task& task, UserPtr<const SigSet> set, unsigned long size) {
  TRY(check_size(size));
  const SigSet mask = TRY(task.read(set));
  const SigSet before = task.blocked;
  set_mask(task, mask);
  for (;;) {
    task.prepare_to_block();
    if (auto slept = task.block(); !slept) break;
  }
  task.saved_mask = before;
  return Errno(kRestartNoHand);
}

Result<long> sys_pause(Task& task) {
  for (;;) {
    task.prepare_to_block();
    if (auto slept = task.block(); !slept) return Errno(kRestartNoHand);
  }
}

Result<long> sys_rt_sigtimedwait(Task& task, UserPtr<const SigSet> set, UserPtr<abi::SigInfo> info, UserPtr<const timespec> timeout,
                                 unsigned long size) {
  TRY(check_size(size));
  const SigSet wanted = TRY(task.read(set)) & ~kUnblockable;
  Deadline deadline;
  if (timeout) {
    const timespec time = TRY(task.read(timeout));
    if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= 1'000'000'000) return Errno(EINVAL);
    deadline = Deadline::after(time.tv_sec > 1'000'000'000 ? INT64_MAX : time.tv_sec * 1'000'000'000L + time.tv_nsec);
  }
  abi::SigInfo found;
  Result<void> slept;
  for (;;) {
    task.prepare_to_block();
    {
      std::lock_guard guard(task.kernel.tasks);
      task.waited_for = 0;
      if (task.pending.take(0, &found, wanted) || task.group->pending.take(0, &found, wanted)) break;
      if (!slept.ok()) return slept.error() == Errno(ETIMEDOUT) ? Errno(EAGAIN) : Errno(EINTR);
      task.waited_for = wanted;
    }
    slept = task.block(deadline);
  }
  if (info) TRY(task.write(info, found));
  return found.signo;
}

Result<long> sys_sigaltstack(Task& task, UserPtr<const abi::SigStack> set, UserPtr<abi::SigStack> old) {
  constexpr int kAutoDisarm = static_cast<int>(1U << 31);
  abi::SigStack& now = task.alternate_stack;
  const bool on_it =
      now.size != 0 && (now.flags & kAutoDisarm) == 0 && task.registers().rsp > now.sp && task.registers().rsp - now.sp <= now.size;
  abi::SigStack before = now;
  if (now.size == 0)
    before.flags = SS_DISABLE;
  else if (on_it)
    before.flags |= SS_ONSTACK;
  if (set) {
    abi::SigStack wanted = TRY(task.read(set));
    if (on_it) return Errno(EPERM);
    const int mode = wanted.flags & ~kAutoDisarm;
    if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0) return Errno(EINVAL);
    if (mode == SS_DISABLE) {
      now = abi::SigStack();
    } else {
      if (wanted.size < 2048) return Errno(ENOMEM);
      now = {wanted.sp, wanted.flags & kAutoDisarm, 0, wanted.size};
    }
  }
  if (old) TRY(task.write(old, before));
  return 0L;
}

Result<long> kill_one_locked(Task& task, ThreadGroup& target, const abi::SigInfo& info) {
  if (!may_signal(task, target, info.signo)) return Errno(EPERM);
  if (info.signo != 0) send_to_group_locked(target, info);
  return 0L;
}

Result<long> sys_kill(Task& task, int pid, int signal) {
  if (signal < 0 || signal > abi::kSignals) return Errno(EINVAL);
  const abi::SigInfo info = user_signal(signal, &task);
  std::lock_guard guard(task.kernel.tasks);
  PidNamespace& pids = *task.group->pids;
  if (pid > 0) {
    auto found = pids.groups.find(pid);
    if (found == pids.groups.end()) {
      const auto thread = pids.tasks.find(pid);
      if (thread == pids.tasks.end()) return Errno(ESRCH);
      return kill_one_locked(task, *thread->second->group, info);
    }
    return kill_one_locked(task, *found->second, info);
  }
  bool any = false, permitted = false;
  for (auto& [id, group] : (pid == 0 ? *task.group->pgid->space() : pids).groups) {
    if (pid == -1 ? (id == 1 || group == task.group) : (pid == 0 ? group->pgid != task.group->pgid : number_in(group->pgid, pids) != -pid))
      continue;
    any = true;
    permitted |= kill_one_locked(task, *group, info).ok();
  }
  if (!any) return Errno(ESRCH);
  if (!permitted) return Errno(EPERM);
  return 0L;
}

Result<long> signal_thread(Task& task, int tgid, int tid, const abi::SigInfo& info) {
  if (tid <= 0 || info.signo < 0 || info.signo > abi::kSignals) return Errno(EINVAL);
  std::lock_guard guard(task.kernel.tasks);
  const auto found = task.group->pids->tasks.find(tid);
  if (found == task.group->pids->tasks.end() || (tgid != 0 && found->second->group->id->in(*task.group->pids) != tgid)) return Errno(ESRCH);
  if (!may_signal(task, *found->second->group, info.signo)) return Errno(EPERM);
  if (info.signo != 0) send_to_task_locked(*found->second, info);
  return 0L;
}

Result<long> sys_tgkill(Task& task, int tgid, int tid, int signal) {
  if (tgid <= 0) return Errno(EINVAL);
  abi::SigInfo info = user_signal(signal, &task);
  info.code = SI_TKILL;
  return signal_thread(task, tgid, tid, info);
}

Result<long> sys_tkill(Task& task, int tid, int signal) {
  abi::SigInfo info = user_signal(signal, &task);
  info.code = SI_TKILL;
  return signal_thread(task, 0, tid, info);
}

// A guest may not forge what only the kernel or kill(2) say, but to itself.
Result<abi::SigInfo> queued_info(Task& task, int pid, int signal, UserPtr<const abi::SigInfo> from) {
  abi::SigInfo info = TRY(task.read(from));
  info.signo = signal;
  if ((info.code >= 0 || info.code == SI_TKILL) && pid != task.group->pid) return Errno(EPERM);
  return info;
}

Result<long> sys_rt_sigqueueinfo(Task& task, int pid, int signal, UserPtr<const abi::SigInfo> from) {
  if (signal < 0 || signal > abi::kSignals) return Errno(EINVAL);
  const abi::SigInfo info = TRY(queued_info(task, pid, signal, from));
  std::lock_guard guard(task.kernel.tasks);
  const auto found = task.group->pids->groups.find(pid);
  if (found == task.group->pids->groups.end()) return Errno(ESRCH);
  return kill_one_locked(task, *found->second, info);
}

Result<long> sys_rt_tgsigqueueinfo(Task& task, int tgid, int tid, int signal, UserPtr<const abi::SigInfo> from) {
  if (tgid <= 0) return Errno(EINVAL);
  return signal_thread(task, tgid, tid, TRY(queued_info(task, tgid, signal, from)));
}

Result<long> sys_restart_syscall(Task& task) {
  if (!task.restart) return Errno(EINTR);
  const auto restart = std::exchange(task.restart, nullptr);
  return restart(task);
}

}  // namespace

std::span<const SyscallRow> signal_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(rt_sigaction, 13, Full, ""),
      SYSCALL(rt_sigprocmask, 14, Full, ""),
      SYSCALL(rt_sigreturn, 15, Full, ""),
      SYSCALL(pause, 34, Full, ""),
      SYSCALL(kill, 62, Full, ""),
      SYSCALL(rt_sigpending, 127, Full, ""),
      SYSCALL(rt_sigtimedwait, 128, Full, ""),
      SYSCALL(rt_sigqueueinfo, 129, Full, ""),
      SYSCALL(rt_sigsuspend, 130, Full, ""),
      SYSCALL(sigaltstack, 131, Full, ""),
      SYSCALL(tkill, 200, Full, ""),
      SYSCALL(restart_syscall, 219, Full, ""),
      SYSCALL(tgkill, 234, Full, ""),
      SYSCALL(rt_tgsigqueueinfo, 297, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
