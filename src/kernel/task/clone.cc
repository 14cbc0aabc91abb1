#include "kernel/task/clone.h"

#include <linux/ptrace.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include <algorithm>

#include "kernel/event/pidfd.h"
#include "kernel/ipc/shared_memory.h"
#include "kernel/klog.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/signal/send.h"
#include "kernel/task/idle_threads.h"
#include "kernel/task/kernel.h"
#include "kernel/task/stub_limits.h"
#include "kernel/task/unshare.h"
#include "kernel/trace/trace.h"

namespace caisson::kernel {
namespace {

constexpr size_t kThreadStack = 256 * 1024;  // address space; what is touched counts
constexpr uint64_t kClearSigHand = 0x100000000ULL;

Result<void> check(const Task& parent, const CloneRequest& request) {
  const uint64_t flags = request.flags;
  if ((flags & CLONE_THREAD) != 0 && (flags & CLONE_SIGHAND) == 0) return Errno(EINVAL);
  if ((flags & CLONE_SIGHAND) != 0 && (flags & CLONE_VM) == 0) return Errno(EINVAL);
  if ((flags & kClearSigHand) != 0 && (flags & CLONE_SIGHAND) != 0) return Errno(EINVAL);
  if ((flags & CLONE_PIDFD) != 0 && (flags & CLONE_PARENT_SETTID) != 0 && request.pidfd == request.parent_tid) return Errno(EINVAL);
  if ((flags & CLONE_PIDFD) != 0 && (flags & (CLONE_THREAD | CLONE_DETACHED)) != 0) return Errno(EINVAL);
  if ((flags & CLONE_FS) != 0 && (flags & (CLONE_NEWNS | CLONE_NEWUSER)) != 0) return Errno(EINVAL);
  if ((flags & CLONE_SYSVSEM) != 0 && (flags & CLONE_NEWIPC) != 0) return Errno(EINVAL);
  // Threads of a process are in the same namespaces of these kinds; and the children of a namespace's first process are its own.
  const bool other_pids = (flags & CLONE_NEWPID) != 0 || parent.spaces->pids_for_children != parent.group->pids;
  if ((flags & CLONE_THREAD) != 0 && ((flags & CLONE_NEWUSER) != 0 || other_pids)) return Errno(EINVAL);
  if ((flags & CLONE_PARENT) != 0 && parent.group->pid == 1) return Errno(EINVAL);
  if (request.exit_signal < 0 || request.exit_signal > abi::kSignals) return Errno(EINVAL);
  return {};
}

// The host side of it.
Result<std::unique_ptr<StubThread>> make_stub(Task& parent, const CloneRequest& request) {
  const uint64_t clear = request.flags & CLONE_CHILD_CLEARTID;
  const uint64_t clear_tid = clear != 0 ? request.child_tid : 0;
  const uint64_t tls = request.flags & CLONE_SETTLS;
  if ((request.flags & CLONE_VM) == 0) return parent.stub->fork(clear, clear_tid);
  return parent.stub->clone_shared((request.flags & CLONE_THREAD) == 0, clear | tls, clear_tid, request.tls);
}

// CLONE_INTO_CGROUP, clone(2).
Result<void> may_start_in_locked(const Task& parent, const Cgroup& group) {
  if (group.removed) return Errno(ENOENT);
  if (!parent.group->cgroup) return Errno(EBADF);
  TRY(may_move_locked(*parent.creds, *parent.spaces->cgroup->root, *parent.group->cgroup, group));
  return parent.group->cgroup.get() == &group ? Result<void>() : group.may_host_locked();
}

std::shared_ptr<ThreadGroup> make_group(Task& parent, const CloneRequest& request, const ChangedNamespaces& spaces) {
  auto group = std::make_shared<ThreadGroup>();
  group->pids = spaces.spaces->pids_for_children;
  group->container = parent.group->container;
  group->exit_signal = request.exit_signal;
  group->handlers = (request.flags & CLONE_SIGHAND) != 0 ? parent.group->handlers : parent.group->handlers->copy();
  if ((request.flags & kClearSigHand) != 0) group->handlers->clear_handlers();
  {
    std::lock_guard guard(parent.group->limits_lock);
    group->limits = parent.group->limits;
  }
  group->start_time = monotonic_now();
  std::lock_guard guard(parent.kernel.tasks);
  // As Linux: with SCHED_RESET_ON_FORK no child is better than others.
  group->nice = parent.scheduling.reset_on_fork ? std::max(parent.group->nice, 0) : parent.group->nice;
  group->oom_score_adj = parent.group->oom_score_adj;
  group->dumpable = parent.group->dumpable;
  return group;
}

std::unique_ptr<Task> make_task(Task& parent, const CloneRequest& request, const ChangedNamespaces& spaces,
                                std::unique_ptr<StubThread> stub) {
  auto task = std::make_unique<Task>(parent.kernel);
  task->memory = stub->memory();
  task->stub = std::move(stub);
  task->fds = (request.flags & CLONE_FILES) != 0 ? parent.fds : parent.fds->copy();
  task->fs = (request.flags & CLONE_FS) != 0 ? parent.fs : spaces.fs ? spaces.fs : parent.fs->copy();
  task->spaces = spaces.spaces;
  task->creds = spaces.creds;
  {
    // Others may set them.
    std::lock_guard guard(parent.kernel.tasks);
    task->name = parent.name;
    task->scheduling = parent.scheduling.inherited();
  }
  task->personality = parent.personality.load();
  task->blocked = parent.blocked;
  if (parent.saved_mask) task->blocked = *parent.saved_mask;
  if ((request.flags & CLONE_VM) == 0 || (request.flags & CLONE_VFORK) != 0) task->alternate_stack = parent.alternate_stack;
  task->registers() = parent.registers();
  task->registers().rax = 0;
  if (request.stack != 0) task->registers().rsp = request.stack;
  if ((request.flags & CLONE_VM) == 0 && task->memory != parent.memory) {
    std::lock_guard guard(parent.memory->lock);
    task->memory->layout = parent.memory->layout;
    task->memory->executable = parent.memory->executable;
  }
  if (task->memory != parent.memory) inherit_attachments(parent, task->memory);
  return task;
}

// Puts the new task into the tree; EAGAIN, ENOMEM where it may not be.
Result<void> enter_tree(Task& parent, Task& child, const CloneRequest& request) {
  std::lock_guard guard(parent.kernel.tasks);
  ThreadGroup& ours = *parent.group;
  if (ours.exiting || parent.leaving) return Errno(kRestartNoIntr);
  PidNamespace& pids = *child.group->pids;
  if (pids.dead) return Errno(ENOMEM);
  if (request.cgroup) TRY(may_start_in_locked(parent, *request.cgroup));
  child.id = TRY(TaskId::create(child.group->pids));
  child.tid = child.id->number();
  child.seccomp.set(parent.seccomp.get());  // with the lock held: SECCOMP_FILTER_FLAG_TSYNC misses nobody
  if ((request.flags & CLONE_THREAD) != 0) {
    child.group = parent.group;
  } else {
    ThreadGroup& group = *child.group;
    group.pid = child.tid;
    group.id = child.id;
    group.pgid = ours.pgid;
    group.sid = ours.sid;
    group.terminal = ours.terminal;
    group.leader = &child;
    const auto to = (request.flags & CLONE_PARENT) != 0 ? ours.parent.lock() : parent.group;
    group.parent = to;
    if (to) to->children.push_back(child.group);
    if (group.pid == 1) pids.init = child.group;
    list_group_locked(child.group);
  }
  if ((request.flags & CLONE_THREAD) == 0) enter_cgroup_locked(*child.group, request.cgroup ? request.cgroup : ours.cgroup);
  child.group->tasks.push_back(&child);
  count_tasks_locked(*child.group, 1);
  list_task_locked(child);
  if (ours.stopped || child.group->frozen || parent.pending.set() != 0) child.attention = true;
  return {};
}

// CLONE_PIDFD: the descriptor comes first, so that its failure leaves no child behind.
Result<void> enter_with_pidfd(Task& parent, Task& child, const CloneRequest& request) {
  if ((request.flags & CLONE_PIDFD) == 0) return enter_tree(parent, child, request);
  const auto file = std::make_shared<PidFd>(parent.kernel, child.group, 0);
  const int fd = TRY(parent.fds->add(file, true, parent.group->limit(RLIMIT_NOFILE).rlim_cur));
  Result<void> done = parent.write(UserPtr<int>(request.pidfd), fd);
  if (done) done = enter_tree(parent, child, request);
  if (!done) (void)parent.fds->remove(fd);
  return done;
}

}  // namespace

Result<long> clone_task(Task& parent, const CloneRequest& request) {
  TRY(check(parent, request));
  const ChangedNamespaces spaces = TRY(make_namespaces(parent, request.flags));
  {
    std::lock_guard guard(parent.kernel.tasks);
    if (request.cgroup) TRY(may_start_in_locked(parent, *request.cgroup));
    if (const auto& group = request.cgroup ? request.cgroup : parent.group->cgroup) TRY(may_fork_locked(*group));
  }
  const bool traps = parent.stub->process()->traps_everything();  // before: the copy surely has what was there then
  std::unique_ptr<StubThread> stub = TRY(make_stub(parent, request));
  if (traps) stub->process()->inherit_traps();
  const std::shared_ptr<StubProcess> process = stub->process();
  const bool is_process = (request.flags & CLONE_THREAD) == 0;
  std::unique_ptr<Task> child = make_task(parent, request, spaces, std::move(stub));
  child->group = is_process ? make_group(parent, request, spaces) : parent.group;
  Result<void> entered = enter_with_pidfd(parent, *child, request);
  if (!entered) {
    if (!is_process) child->stub->exit_thread();
    return entered.error();
  }
  if (is_process) parent.kernel.watch(process);
  const pid_t tid = child->id->in(*parent.group->pids);
  int event;
  {
    std::lock_guard guard(parent.kernel.tasks);
    event = trace_clone_locked(parent, *child, request.flags);
  }
  std::shared_ptr<VforkWait> vfork;
  if ((request.flags & CLONE_VFORK) != 0) child->vfork_wait = vfork = std::make_shared<VforkWait>();
  if ((request.flags & CLONE_CHILD_SETTID) != 0) (void)child->write(UserPtr<pid_t>(request.child_tid), child->tid);
  if ((request.flags & CLONE_PARENT_SETTID) != 0) (void)parent.write(UserPtr<pid_t>(request.parent_tid), tid);
  if (is_process) keep_cpu_limit(child->group, child->kernel);
  start_thread(std::move(child));
  if (event != 0) trace_event(parent, event, static_cast<unsigned long>(tid));
  if (vfork) {
    TaskWaiter waiter(parent, vfork->queue, 0);
    for (;;) {
      parent.prepare_to_block();
      if (vfork->done || !parent.block_killable()) break;
    }
    if (event == PTRACE_EVENT_VFORK) trace_vfork_done(parent, tid);
  }
  return tid;
}

void start_thread(std::unique_ptr<Task> task) {
  Kernel& kernel = task->kernel;
  kernel.thread_began();
  if (IdleThreads::get().give(task)) return;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kThreadStack);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  Task* raw = task.release();
  const int error = pthread_create(
      &thread, &attributes,
      [](void* argument) -> void* {
        std::unique_ptr<Task> owned(static_cast<Task*>(argument));
        for (; owned; owned = IdleThreads::get().wait()) {
          Kernel& kernel = owned->kernel;
          owned->run();
          owned.reset();
          kernel.thread_ended();
        }
        return nullptr;
      },
      raw);
  pthread_attr_destroy(&attributes);
  if (error == 0) return;
  klog(LogLevel::Error, "no thread for task %d: %s", raw->tid, strerrordesc_np(error));
  std::unique_ptr<Task> owned(raw);
  {
    std::lock_guard guard(kernel.tasks);
    if (raw->group->leader == raw) end_group_locked(*raw->group, CLD_KILLED, SIGKILL);
  }
  raw->leaving = true;
  raw->run();
  owned.reset();
  kernel.thread_ended();
}

}  // namespace caisson::kernel
