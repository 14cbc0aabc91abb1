#include "kernel/task/exit.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>

#include "kernel/ipc/shared_memory.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/signal/send.h"
#include "kernel/task/answers.h"
#include "kernel/task/kernel.h"
#include "kernel/task/pi_futex.h"
#include "kernel/task/robust.h"
#include "kernel/task/thread_waiter.h"
#include "kernel/time/clock.h"
#include "kernel/trace/trace.h"
#include "kernel/tty/terminal.h"

namespace caisson::kernel {

int WaitStatus::encoded() const {
  switch (code) {
    case CLD_EXITED:
      return (status & 0xff) << 8;
    case CLD_KILLED:
      return status & 0x7f;
    case CLD_DUMPED:
      return (status & 0x7f) | 0x80;
    case CLD_STOPPED:
    case CLD_TRAPPED:
      return status << 8 | 0x7f;
    default:
      return 0xffff;
  }
}

void notify_parent_locked(ThreadGroup& group, int code, int status) {
  const std::shared_ptr<ThreadGroup> parent = group.parent.lock();
  if (!parent) return;
  const bool ended = code == CLD_EXITED || code == CLD_KILLED || code == CLD_DUMPED;
  abi::SigInfo info;
  info.signo = ended ? group.exit_signal : SIGCHLD;
  info.code = code;
  info.child.pid = group.id->in(*parent->pids);
  info.child.uid = group.tasks.empty() ? group.last_uid : group.tasks.front()->creds->uid;
  if (!parent->tasks.empty()) info.child.uid = parent->tasks.front()->creds->user->shown(UserNamespace::Ids::Users, info.child.uid);
  info.child.status = status;
  info.child.utime = group.usage.user_ns / 10'000'000;
  info.child.stime = group.usage.system_ns / 10'000'000;
  const abi::SigAction action = parent->handlers->get(SIGCHLD);
  if (info.signo != 0 && (ended || (action.flags & abi::kSaNoCldStop) == 0)) send_to_group_locked(*parent, info);
  parent->child_events.wake(~0U);
}

bool is_orphaned_locked(const ThreadGroup& group) {
  for (const auto& [pid, other] : group.pgid->space()->groups) {
    if (other->pgid != group.pgid || other->zombie) continue;
    const std::shared_ptr<ThreadGroup> parent = other->parent.lock();
    if (parent && parent->pgid != other->pgid && parent->sid == other->sid) return false;
  }
  return true;
}

void end_namespace_locked(PidNamespace& pids, const ThreadGroup* spared) {
  pids.dead = true;
  for (auto& [pid, group] : pids.groups)
    if (group.get() != spared && !group->zombie) end_group_locked(*group, CLD_KILLED, SIGKILL);
}

namespace {

void add_usage(ThreadGroup::Usage& to, const ThreadGroup::Usage& from) {
  to.user_ns += from.user_ns;
  to.system_ns += from.system_ns;
  to.minor_faults += from.minor_faults;
  to.major_faults += from.major_faults;
  to.max_rss_kib = std::max(to.max_rss_kib, from.max_rss_kib);
}

// Takes a zombie out of the world.
void release_locked(ThreadGroup& group) {
  const std::shared_ptr<ThreadGroup> self = group.shared_from_this();
  if (const auto parent = group.parent.lock()) {
    add_usage(parent->children_usage, group.usage);
    add_usage(parent->children_usage, group.children_usage);
    parent->children.remove(self);
  }
  unlist_group_locked(group);
}

// The nearest ancestor that takes orphans, or the namespace's init.
std::shared_ptr<ThreadGroup> adopter_locked(ThreadGroup& group) {
  for (auto ancestor = group.parent.lock(); ancestor && ancestor->pids == group.pids; ancestor = ancestor->parent.lock())
    if (ancestor->child_subreaper && !ancestor->exiting && !ancestor->zombie) return ancestor;
  const auto init = group.pids->dead ? nullptr : group.pids->init.lock();
  return init && init.get() != &group && !init->zombie ? init : nullptr;
}

void give_children_away_locked(ThreadGroup& group) {
  const std::shared_ptr<ThreadGroup> adopter = adopter_locked(group);
  for (const std::shared_ptr<ThreadGroup>& child : std::list(group.children)) {
    const bool was_orphaned = child->zombie || is_orphaned_locked(*child);
    child->parent = adopter;
    for (Task* task : child->tasks) tell_parent_locked(*task);
    child->exit_signal = SIGCHLD;
    if (child->parent_death_signal != 0 && !child->zombie) send_to_group_locked(*child, user_signal(child->parent_death_signal, nullptr));
    if (adopter) adopter->children.push_back(child);
    if (child->zombie && !adopter) unlist_group_locked(*child);
    if (child->zombie && adopter) notify_parent_locked(*child, child->exit.code, child->exit.status);
    // A stopped process group that nobody can continue any more is told so (exit(2), "newly orphaned").
    if (!was_orphaned && child->stopped && is_orphaned_locked(*child)) {
      send_to_group_locked(*child, user_signal(SIGHUP, nullptr));
      send_to_group_locked(*child, user_signal(SIGCONT, nullptr));
    }
  }
  group.children.clear();
}

// The first process of a nested PID namespace ends when everybody else in it has ended (pid_namespaces(7)): who waits for it finds nobody
// left. Zombies whose parents are outside stay theirs.
void end_nested_namespace(Task& task) {
  PidNamespace& pids = *task.group->pids;
  ThreadWaiter ended;
  {
    std::lock_guard guard(task.kernel.tasks);
    if (!pids.parent || pids.init.lock() != task.group) return;
    end_namespace_locked(pids, task.group.get());
  }
  pids.group_ended.add(ended);
  for (;;) {
    {
      std::lock_guard guard(task.kernel.tasks);
      const bool others = std::any_of(pids.groups.begin(), pids.groups.end(),
                                      [&](const auto& each) { return each.second != task.group && !each.second->zombie; });
      if (!others) break;
    }
    ended.wait();
  }
  pids.group_ended.remove(ended);
}

void become_zombie(Task& task, const rusage& usage, uid_t uid) {
  ThreadGroup& group = *task.group;
  const std::shared_ptr<ThreadGroup> self = task.group;
  std::lock_guard guard(task.kernel.tasks);
  group.usage.user_ns += usage.ru_utime.tv_sec * 1'000'000'000L + usage.ru_utime.tv_usec * 1000L;
  group.usage.system_ns += usage.ru_stime.tv_sec * 1'000'000'000L + usage.ru_stime.tv_usec * 1000L;
  group.usage.max_rss_kib = std::max(group.usage.max_rss_kib, usage.ru_maxrss);
  group.usage.minor_faults += usage.ru_minflt;
  group.usage.major_faults += usage.ru_majflt;
  group.last_uid = uid;
  if (!group.exiting) group.exit = {CLD_EXITED, task.exit_status};
  group.exiting = true;
  leave_cgroup_locked(group);
  group.zombie = true;
  tracer_ended_locked(group);
  session_leader_ends_locked(group);
  if (group.pids->init.lock() == self) end_namespace_locked(*group.pids, &group);
  give_children_away_locked(group);
  const auto parent = group.parent.lock();
  bool nobody_waits = !parent;
  if (parent) {
    const abi::SigAction action = parent->handlers->get(SIGCHLD);
    nobody_waits = group.exit_signal == SIGCHLD && (action.handler == 1 || (action.flags & abi::kSaNoCldWait) != 0);
    notify_parent_locked(group, group.exit.code, group.exit.status);
  }
  traced_group_ended_locked(group);
  if (nobody_waits) release_locked(group);
  group.exited.wake(POLLIN);
  for (PidNamespace* at = group.pids.get(); at != nullptr; at = at->parent.get()) at->group_ended.wake(POLLIN);
}

}  // namespace

void finish_task(Task& task) {
  Kernel& kernel = task.kernel;
  ThreadGroup& group = *task.group;
  give_up_robust_futexes(task);
  std::unique_ptr<StubThread> stub;
  std::shared_ptr<ProcessTimers> timers;
  bool last, whole;
  const int64_t served = served_time(task);  // a call of the host's: not with the lock held
  {
    std::lock_guard guard(kernel.tasks);
    tracee_ended_locked(task);
    std::erase(group.tasks, &task);
    group.kernel_ns += static_cast<uint64_t>(served);
    if (std::exchange(task.frozen, false)) count_frozen_locked(group, -1);
    count_tasks_locked(group, -1);
    if (group.leader == &task) group.leader = nullptr;
    unlist_task_locked(task);
    last = group.tasks.empty();
    if (last) timers = std::move(group.timers);
    whole = group.exiting;
    stub = std::move(task.stub);
    group.thread_left.wake(~0U);
  }
  pi_owner_ended(task.tid);
  const std::shared_ptr<StubProcess> process = stub->process();
  rusage usage{};
  if (!last) {
    // Threads of a process that ends as a whole are ended by the SIGKILL; a single one leaves by itself, so that the host clears its
    // clear_child_tid and wakes who joins it.
    if (!whole && !process->dead())
      stub->exit_thread();
    else
      process->kill();
  } else {
    usage = process->reap();
  }
  stub.reset();
  task.fds.reset();
  task.fs.reset();
  task.memory.reset();
  if (last) settle_shared_memory(*task.spaces->ipc, &group);
  if (task.vfork_wait) task.vfork_wait->finish();
  if (last) end_nested_namespace(task);
  const NamespacesRef spaces = std::exchange(task.spaces, nullptr);  // the last use of a namespace is given up without a lock
  if (last) become_zombie(task, usage, task.creds->uid);
}

namespace {

bool matches(const ThreadGroup& child, const Task& task, const WaitRequest& request) {
  const bool clone_child = child.exit_signal != SIGCHLD;
  if ((request.options & __WALL) == 0 && clone_child != ((request.options & __WCLONE) != 0)) return false;
  const PidNamespace& ours = *task.group->pids;
  if (request.pid > 0) return child.id->in(ours) == request.pid;
  if (request.pid == 0) return child.pgid == task.group->pgid;
  if (request.pid == -1) return true;
  return number_in(child.pgid, ours) == -request.pid;
}

// A tracer is told of stops whatever it asks for (ptrace(2)), and of the end of tasks that are not its children.
Result<Waited> look_at_tracees_locked(Task& task, const WaitRequest& request) {
  ThreadGroup& tracer = *task.group;
  const bool takes = (request.options & WNOWAIT) == 0;
  const auto wants = [&](pid_t tid, pid_t pgid) {
    const int64_t group = request.pid == 0 ? number_in(tracer.pgid, *tracer.pids) : -request.pid;
    return request.pid > 0 ? tid == request.pid : request.pid == -1 || pgid == group;
  };
  bool any = tracer.leaving_tracees > 0;
  for (Task* tracee : tracer.tracees) {
    const pid_t number = tracee->id->in(*tracer.pids);
    if (!wants(number, number_in(tracee->group->pgid, *tracer.pids))) continue;
    any = true;
    Tracing& tracing = *tracee->tracing;
    if (!tracing.stopped || tracing.told) continue;
    if (takes) tracing.told = true;
    return Waited{.pid = number, .uid = tracee->creds->uid, .status = {CLD_TRAPPED, tracing.code}, .usage = {}};
  }
  for (size_t i = 0; (request.options & WEXITED) != 0 && i < tracer.ended_tracees.size(); ++i) {
    const auto [tid, status] = tracer.ended_tracees[i];
    if (!wants(tid, 0)) continue;
    if (takes) tracer.ended_tracees.erase(tracer.ended_tracees.begin() + static_cast<ptrdiff_t>(i));
    return Waited{.pid = tid, .uid = 0, .status = status, .usage = {}};
  }
  return any ? Errno(EAGAIN) : Errno(ECHILD);
}

bool is_traced_by_locked(const Task* task, const ThreadGroup& tracer) {
  return task != nullptr && task->tracing && task->tracing->tracer.lock().get() == &tracer;
}

// ECHILD: nothing to wait for; EAGAIN: not yet.
Result<Waited> look_at_children_locked(Task& task, const WaitRequest& request) {
  bool any = false;
  if (const Result<Waited> traced = look_at_tracees_locked(task, request); traced.ok() || traced.error() != Errno(ECHILD)) {
    if (traced.ok()) return traced;
    any = true;
  }
  for (const std::shared_ptr<ThreadGroup>& child : std::list(task.group->children)) {
    if (!matches(*child, task, request)) continue;
    any = true;
    Waited found;
    found.pid = child->id->in(*task.group->pids);
    found.uid = child->tasks.empty() ? child->last_uid : child->tasks.front()->creds->uid;
    found.uid = task.creds->user->shown(UserNamespace::Ids::Users, found.uid);
    if (child->zombie && (request.options & WEXITED) != 0) {
      found.status = child->exit;
      found.usage = child->usage;
      add_usage(found.usage, child->children_usage);
      if ((request.options & WNOWAIT) == 0) release_locked(*child);
      return found;
    }
    if (!child->zombie && child->untold && !is_traced_by_locked(child->leader, *task.group) &&
        ((child->untold->code == CLD_STOPPED && (request.options & WSTOPPED) != 0) ||
         (child->untold->code == CLD_CONTINUED && (request.options & WCONTINUED) != 0))) {
      found.status = *child->untold;
      if ((request.options & WNOWAIT) == 0) child->untold.reset();
      return found;
    }
  }
  if (!any) return Errno(ECHILD);
  return Errno(EAGAIN);
}

}  // namespace

Result<Waited> wait_for_child(Task& task, const WaitRequest& request) {
  TaskWaiter waiter(task, task.group->child_events, 0);
  for (;;) {
    task.prepare_to_block();
    {
      std::lock_guard guard(task.kernel.tasks);
      Result<Waited> found = look_at_children_locked(task, request);
      if (found.ok() || found.error() != Errno(EAGAIN)) return found;
    }
    if ((request.options & WNOHANG) != 0) return Waited{};
    TRY(task.block());
  }
}

}  // namespace caisson::kernel
