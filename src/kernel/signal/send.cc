#include "kernel/signal/send.h"

#include <signal.h>

#include "kernel/platform/stub_thread.h"
#include "kernel/task/current.h"
#include "kernel/task/exit.h"
#include "kernel/task/kernel.h"
#include "kernel/task/task.h"

namespace caisson::kernel {

using abi::sig_bit;

abi::SigInfo user_signal(int signal, Task* sender) {
  abi::SigInfo info;
  info.signo = signal;
  info.code = sender != nullptr ? SI_USER : SI_KERNEL;
  if (sender != nullptr) {
    info.rt.pid = sender->group->pid;
    info.rt.uid = sender->creds->uid;
  }
  return info;
}

void kick_locked(Task& task) {
  task.attention.store(true, std::memory_order_seq_cst);
  task.wake();
  // In guest code only a host signal reaches it. `in_guest` is set before the last look at `attention`, so that one of the two sees the
  // other.
  if (task.in_guest.load(std::memory_order_seq_cst) && task.stub) task.stub->interrupt();
}

namespace {

// Sent by somebody whom the target's PID namespace does not see: from above. Its init obeys SIGKILL and SIGSTOP from there.
bool from_above(const ThreadGroup& target) {
  const Task* sender = current_task();
  return sender != nullptr && sender->group->id && target.pids && sender->group->id->in(*target.pids) == 0;
}

// kill(2)'s numbers as the target knows them.
abi::SigInfo as_told_to(const ThreadGroup& target, abi::SigInfo info) {
  const Task* sender = current_task();
  const bool tells = info.code == SI_USER || info.code == SI_TKILL || info.code == SI_QUEUE || info.code == SI_MESGQ;
  if (!tells || sender == nullptr || !sender->group->id || target.tasks.empty()) return info;
  if (sender->group->pids != target.pids) {
    const pid_t pid = sender->group->id->in(*target.pids);
    if (pid == 0 || info.code == SI_USER || info.code == SI_TKILL) info.rt.pid = pid;
  }
  const UserNamespace& theirs = *target.tasks.front()->creds->user;
  if ((info.code == SI_USER || info.code == SI_TKILL) && !(theirs.is_initial() && sender->creds->user->is_initial()))
    info.rt.uid = theirs.shown(UserNamespace::Ids::Users, sender->creds->uid);
  return info;
}

// What takes effect when a signal is made, not when it is delivered (signal(7), job control).
void prepare(ThreadGroup& group, int signal) {
  if (signal == SIGCONT || signal == SIGKILL) {
    group.pending.drop(kStopSignals);
    for (Task* task : group.tasks) task->pending.drop(kStopSignals);
    if (group.stopped) {
      group.stopped = false;
      if (signal == SIGCONT) {
        group.untold = WaitStatus{CLD_CONTINUED, SIGCONT};
        notify_parent_locked(group, CLD_CONTINUED, SIGCONT);
      }
      for (Task* task : group.tasks) kick_locked(*task);
    }
  } else if ((sig_bit(signal) & kStopSignals) != 0) {
    group.pending.drop(sig_bit(SIGCONT));
    for (Task* task : group.tasks) task->pending.drop(sig_bit(SIGCONT));
  }
}

// True: it would do nothing, now or later. The init of a PID namespace is immune to what it has no handler for.
bool discards(const ThreadGroup& group, const Task* task, const abi::SigInfo& info) {
  const int signal = info.signo;
  // A tracer sees also what would be ignored.
  for (const Task* each : group.tasks)
    if (each->tracing) return false;
  const bool is_init = group.pids->init.lock().get() == &group;
  const abi::SigAction action = group.handlers->get(signal);
  if (is_init && action.handler == 0 && signal != SIGCONT &&
      !(info.code == SI_KERNEL && (sig_bit(signal) & (kUnblockable | kFaultSignals)) != 0) &&
      !((sig_bit(signal) & kUnblockable) != 0 && from_above(group)))
    return true;
  if ((sig_bit(signal) & kUnblockable) != 0) return false;
  const bool blocked = task != nullptr ? (task->blocked & sig_bit(signal)) != 0 : false;
  return !blocked && group.handlers->ignores(signal) && default_action(signal) != DefaultAction::Continue && action.handler <= 1;
}

}  // namespace

void send_to_group_locked(ThreadGroup& group, const abi::SigInfo& sent, const Task* preferred) {
  const abi::SigInfo info = as_told_to(group, sent);
  const int signal = info.signo;
  if (signal == 0 || group.zombie || group.tasks.empty()) return;
  prepare(group, signal);
  bool all_unblocked = true;
  for (Task* task : group.tasks) all_unblocked &= ((task->blocked | task->waited_for) & sig_bit(signal)) == 0;
  if (all_unblocked && discards(group, nullptr, info)) return;
  if (!group.pending.add(info)) return;
  group.signal_events.wake(POLLIN);
  if (signal == SIGKILL) {
    for (Task* task : group.tasks) {
      kick_locked(*task);
      if (task->stub) task->stub->end_soon();
    }
    return;
  }
  // The one it is meant for, or the main thread, if it wants it, else any that does.
  if (preferred == nullptr) preferred = group.leader;
  Task* chosen = nullptr;
  for (Task* task : group.tasks) {
    if ((task->blocked & ~task->waited_for & sig_bit(signal)) != 0) continue;
    if (chosen == nullptr || task == preferred) chosen = task;
  }
  if (chosen != nullptr) kick_locked(*chosen);
}

void send_to_task_locked(Task& task, const abi::SigInfo& sent) {
  ThreadGroup& group = *task.group;
  const abi::SigInfo info = as_told_to(group, sent);
  if (info.signo == 0 || group.zombie) return;
  prepare(group, info.signo);
  if ((task.waited_for & sig_bit(info.signo)) == 0 && discards(group, &task, info)) return;
  if (!task.pending.add(info)) return;
  group.signal_events.wake(POLLIN);
  if (info.signo == SIGKILL) {
    for (Task* each : group.tasks) kick_locked(*each);
  } else if ((task.blocked & ~task.waited_for & sig_bit(info.signo)) == 0) {
    kick_locked(task);
  }
}

Result<void> send_to_process_group_locked(const TaskIdRef& pgid, const abi::SigInfo& info) {
  bool found = false;
  for (auto& [pid, group] : pgid->space()->groups) {
    if (group->pgid != pgid || group->zombie) continue;
    found = true;
    send_to_group_locked(*group, info);
  }
  if (!found) return Errno(ESRCH);
  return {};
}

void force_signal(Task& task, abi::SigInfo info) {
  std::lock_guard guard(task.kernel.tasks);
  const abi::SigAction action = task.group->handlers->get(info.signo);
  const bool blocked = (task.blocked & sig_bit(info.signo)) != 0;
  if (blocked || action.handler == 1) {
    task.group->handlers->set(info.signo, abi::SigAction());
    task.blocked &= ~sig_bit(info.signo);
    task.forced_fatal = true;
  }
  if (action.handler == 0) task.forced_fatal = true;
  task.pending.add(info);
  task.attention = true;
}

bool may_signal(const Task& sender, const ThreadGroup& target, int signal) {
  if (target.tasks.empty() || sender.group.get() == &target) return true;
  const CredentialsRef theirs = target.tasks.front()->creds;
  const Credentials& ours = *sender.creds;
  if (ours.has_in(*theirs->user, kCapKill) || ours.euid == theirs->suid || ours.euid == theirs->uid || ours.uid == theirs->suid ||
      ours.uid == theirs->uid)
    return true;
  return signal == SIGCONT && sender.group->sid == target.sid;
}

void end_group_locked(ThreadGroup& group, int code, int status) {
  if (group.exiting) return;
  group.exiting = true;
  group.exit = {code, status};
  group.stopped = false;
  for (Task* task : group.tasks) {
    task->leaving = true;
    kick_locked(*task);
    if (task->stub) task->stub->end_soon();
  }
}

}  // namespace caisson::kernel
