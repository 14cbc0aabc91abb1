#include "kernel/trace/trace.h"

#include <linux/ptrace.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <charconv>

#include "kernel/patch/call_sites.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/signal/send.h"
#include "kernel/task/exit.h"
#include "kernel/task/kernel.h"
#include "kernel/trace/exit_stop.h"

namespace caisson::kernel {
namespace {

constexpr abi::SigSet kKill = abi::sig_bit(SIGKILL);

bool must_leave_locked(const Task& task) {
  return task.leaving || task.group->exiting || ((task.pending.set() | task.group->pending.set()) & kKill) != 0;
}

void tell_tracer_locked(Task& task, Tracing& tracing) {
  const std::shared_ptr<ThreadGroup> tracer = tracing.tracer.lock();
  if (!tracer) return;
  abi::SigInfo info;
  info.signo = SIGCHLD;
  info.code = CLD_TRAPPED;
  info.child.pid = task.id->in(*tracer->pids);
  info.child.uid = task.creds->uid;
  info.child.status = tracing.code & 0x7f;
  if ((tracer->handlers->get(SIGCHLD).flags & abi::kSaNoCldStop) == 0) send_to_group_locked(*tracer, info);
  tracer->child_events.wake(~0U);
}

}  // namespace

Result<Task*> find_tracee_locked(Task& tracer, pid_t tid, bool any) {
  const auto found = tracer.group->pids->tasks.find(tid);
  if (found == tracer.group->pids->tasks.end()) return Errno(ESRCH);
  Task* task = found->second;
  if (!task->tracing || task->tracing->tracer.lock() != tracer.group) return Errno(ESRCH);
  if (!any && !task->tracing->stopped) return Errno(ESRCH);
  return task;
}

Result<void> begin_tracing_locked(ThreadGroup& tracer, Task& task, bool seized, unsigned options) {
  if (task.tracing) return Errno(EPERM);
  auto tracing = std::make_shared<Tracing>();
  tracing->tracer = tracer.weak_from_this();
  tracing->seized = seized;
  tracing->options = options;
  task.tracing = std::move(tracing);
  task.memory->call_sites().turn_off();  // a tracer finds the program's own text (make_ready_locked)
  tracer.tracees.push_back(&task);
  return {};
}

void end_tracing_locked(Task& task, int signal) {
  const std::shared_ptr<Tracing> tracing = std::move(task.tracing);
  task.tracing.reset();
  task.trace_calls = false;
  task.trace_step = false;
  if (const auto tracer = tracing->tracer.lock()) std::erase(tracer->tracees, &task);
  tracing->signal = signal;
  tracing->stopped = false;
  tracing->changed.wake(~0U);
  kick_locked(task);
}

bool traced_by_weaker_locked(const Task& task) {
  if (!task.tracing) return false;
  const std::shared_ptr<ThreadGroup> tracer = task.tracing->tracer.lock();
  return !tracer || tracer->tasks.empty() || !tracer->tasks.front()->creds->has_in(*task.creds->user, kCapSysPtrace);
}

void tracer_ended_locked(ThreadGroup& tracer) {
  for (Task* task : std::vector<Task*>(tracer.tracees)) {
    const bool kills = (task->tracing->options & PTRACE_O_EXITKILL) != 0;
    end_tracing_locked(*task, 0);
    if (kills) end_group_locked(*task->group, CLD_KILLED, SIGKILL);
  }
}

void tracee_ended_locked(Task& task) {
  if (!task.tracing) return;
  ThreadGroup& group = *task.group;
  const std::shared_ptr<ThreadGroup> tracer = task.tracing->tracer.lock();
  end_tracing_locked(task, 0);
  if (!tracer) return;
  if (task.tid == group.pid) {
    // Told when the last of its threads has left.
    group.leader_tracer = tracer;
    ++tracer->leaving_tracees;
    return;
  }
  tracer->ended_tracees.emplace_back(task.id->in(*tracer->pids), group.exiting ? group.exit : WaitStatus{CLD_EXITED, task.exit_status});
  tracer->child_events.wake(~0U);
}

void traced_group_ended_locked(ThreadGroup& group) {
  const std::shared_ptr<ThreadGroup> tracer = group.leader_tracer.lock();
  if (!tracer) return;
  --tracer->leaving_tracees;
  tracer->child_events.wake(~0U);
  if (tracer == group.parent.lock()) return;
  tracer->ended_tracees.emplace_back(group.id->in(*tracer->pids), group.exit);
  abi::SigInfo info;
  info.signo = SIGCHLD;
  info.code = group.exit.code;
  info.child.pid = group.id->in(*tracer->pids);
  info.child.uid = group.last_uid;
  info.child.status = group.exit.status;
  send_to_group_locked(*tracer, info);
  tracer->child_events.wake(~0U);
}

void resume_tracee_locked(Task& task, int signal, bool step, bool calls) {
  Tracing& tracing = *task.tracing;
  task.trace_calls = calls;
  tracing.step = step;
  tracing.debug.forget();
  task.trace_step = step || tracing.debug.watches();
  tracing.signal = signal;
  tracing.listening = false;
  // Whoever lets a member of a stopped group go on ends the stop.
  if (!tracing.has_info) task.group->stopped = false;
  tracing.stopped = false;
  task.wake();
}

namespace {

// Before a tracer looks at the task: its own text is back, and its registers are in a frame.
void make_ready_locked(Task& task, std::unique_lock<std::mutex>& lock) {
  task.registers();  // all of them, for stopped_registers()
  CallSites& sites = task.memory->call_sites();
  if (!sites.restore_due() && !task.stub->lacks_frame()) return;
  lock.unlock();
  if (sites.restore_due()) sites.restore(*task.stub);
  (void)task.stub->need_frame();
  lock.lock();
}

}  // namespace

int trace_stop_locked(Task& task, std::unique_lock<std::mutex>& lock, int code, const abi::SigInfo* info, unsigned long message) {
  if (!task.tracing || must_leave_locked(task)) return 0;
  make_ready_locked(task, lock);
  const std::shared_ptr<Tracing> tracing = task.tracing;
  if (!tracing || must_leave_locked(task)) return 0;
  tracing->code = code;
  tracing->has_info = info != nullptr;
  tracing->info = info != nullptr ? *info : abi::SigInfo();
  tracing->message = message;
  tracing->signal = 0;
  tracing->told = false;
  tracing->stopped = true;
  task.trace_step = false;
  tell_tracer_locked(task, *tracing);
  const char* before = task.state.exchange("t");
  while (tracing->stopped && !must_leave_locked(task)) {
    if (tracing->work) {
      const std::function<void(Task&)> work = std::exchange(tracing->work, nullptr);
      lock.unlock();
      work(task);
      lock.lock();
      tracing->changed.wake(~0U);
      continue;
    }
    task.prepare_to_block();
    lock.unlock();
    (void)task.block_killable();
    lock.lock();
  }
  tracing->stopped = false;
  tracing->work = nullptr;
  tracing->changed.wake(~0U);
  task.state = before;
  return must_leave_locked(task) ? 0 : tracing->signal;
}

bool trace_signal_locked(Task& task, std::unique_lock<std::mutex>& lock, abi::SigInfo& info) {
  const std::shared_ptr<Tracing> tracing = task.tracing;
  const int signal = trace_stop_locked(task, lock, info.signo, &info);
  if (signal == 0) return false;
  if (signal == info.signo)
    info = tracing->info;
  else
    info = user_signal(signal, nullptr);
  info.signo = signal;
  return true;
}

bool trace_attention_locked(Task& task, std::unique_lock<std::mutex>& lock) {
  constexpr int kTrapEvent = SIGTRAP | PTRACE_EVENT_STOP << 8;
  Tracing& tracing = *task.tracing;
  abi::SigInfo info = user_signal(SIGTRAP, nullptr);
  info.code = kTrapEvent;
  if (tracing.listening && !task.group->stopped) {
    tracing.listening = false;
    trace_stop_locked(task, lock, kTrapEvent, &info);
    return true;
  }
  if (task.group->stopped && !tracing.listening) {
    tracing.interrupt = false;
    const int signal = task.group->untold && task.group->untold->code == CLD_STOPPED ? task.group->untold->status : SIGSTOP;
    trace_stop_locked(task, lock, tracing.seized ? signal | PTRACE_EVENT_STOP << 8 : signal, nullptr);
    return true;
  }
  if (!tracing.interrupt) return false;
  tracing.interrupt = false;
  trace_stop_locked(task, lock, kTrapEvent, &info);
  return true;
}

namespace {

void stop_at_call(Task& task, Tracing::At at) {
  std::unique_lock lock(task.kernel.tasks);
  const std::shared_ptr<Tracing> tracing = task.tracing;
  if (!tracing || !task.trace_calls) return;
  const int code = (tracing->options & PTRACE_O_TRACESYSGOOD) != 0 ? SIGTRAP | 0x80 : SIGTRAP;
  abi::SigInfo info = user_signal(SIGTRAP, nullptr);
  info.code = code;
  tracing->at = at;
  const int signal = trace_stop_locked(task, lock, code, &info);
  tracing->at = Tracing::At::Elsewhere;
  if (signal != 0) send_to_task_locked(task, user_signal(signal, nullptr));
}

}  // namespace

void trace_call_begins(Task& task) {
  task.syscall_number = task.call_registers().rax;
  task.set_result(static_cast<uint64_t>(-ENOSYS));
  stop_at_call(task, Tracing::At::CallEntry);
  task.set_result(task.syscall_number);  // the tracer may have changed it
}

void trace_call_ends(Task& task) { stop_at_call(task, Tracing::At::CallExit); }

bool trace_seccomp(Task& task, unsigned long data) {
  std::unique_lock lock(task.kernel.tasks);
  const std::shared_ptr<Tracing> tracing = task.tracing;
  if (!tracing || (tracing->options & PTRACE_O_TRACESECCOMP) == 0) return false;
  abi::SigInfo info = user_signal(SIGTRAP, nullptr);
  info.code = SIGTRAP | PTRACE_EVENT_SECCOMP << 8;
  task.set_result(static_cast<uint64_t>(-ENOSYS));
  tracing->at = Tracing::At::Seccomp;
  const int signal = trace_stop_locked(task, lock, info.code, &info, data);
  tracing->at = Tracing::At::Elsewhere;
  if (signal != 0) send_to_task_locked(task, user_signal(signal, nullptr));
  return true;
}

void trace_event(Task& task, int event, unsigned long message) {
  std::unique_lock lock(task.kernel.tasks);
  abi::SigInfo info = user_signal(SIGTRAP, nullptr);
  info.code = SIGTRAP | event << 8;
  const int signal = trace_stop_locked(task, lock, info.code, &info, message);
  if (signal != 0) send_to_task_locked(task, user_signal(signal, nullptr));
}

void trace_exit_locked(Task& task, std::unique_lock<std::mutex>& lock, int status) {
  if (!task.tracing || (task.tracing->options & PTRACE_O_TRACEEXIT) == 0 || task.group->exiting || task.leaving) return;
  abi::SigInfo info = user_signal(SIGTRAP, nullptr);
  info.code = SIGTRAP | PTRACE_EVENT_EXIT << 8;
  (void)trace_stop_locked(task, lock, info.code, &info, static_cast<unsigned long>(status));
}

void trace_vfork_done(Task& task, pid_t child) {
  {
    std::lock_guard guard(task.kernel.tasks);
    if (!task.tracing || (task.tracing->options & PTRACE_O_TRACEVFORKDONE) == 0) return;
  }
  trace_event(task, PTRACE_EVENT_VFORK_DONE, static_cast<unsigned long>(child));
}

void trace_step_ends(Task& task) {
  std::lock_guard guard(task.kernel.tasks);
  if (!task.tracing) return;
  abi::SigInfo info;
  info.signo = SIGTRAP;
  info.code = task.tracing->step ? TRAP_TRACE : TRAP_HWBKPT;
  info.fault.address = task.registers().rip;
  send_to_task_locked(task, info);
}

void trace_exec(Task& task) {
  bool event;
  {
    std::lock_guard guard(task.kernel.tasks);
    if (!task.tracing) return;
    task.memory->call_sites().turn_off();
    task.tracing->debug = {};  // what was watched has gone
    if (!task.tracing->step) task.trace_step = false;
    event = (task.tracing->options & PTRACE_O_TRACEEXEC) != 0;
    if (!event && !task.tracing->seized) send_to_task_locked(task, user_signal(SIGTRAP, &task));
  }
  if (event) trace_event(task, PTRACE_EVENT_EXEC, static_cast<unsigned long>(task.tid));
}

int trace_clone_locked(Task& parent, Task& child, uint64_t flags) {
  if (!parent.tracing || (flags & CLONE_UNTRACED) != 0) return 0;
  const std::shared_ptr<ThreadGroup> tracer = parent.tracing->tracer.lock();
  if (!tracer) return 0;
  int event = PTRACE_EVENT_CLONE;
  if ((flags & CLONE_VFORK) != 0)
    event = PTRACE_EVENT_VFORK;
  else if ((flags & CLONE_THREAD) == 0 && child.group->exit_signal == SIGCHLD)
    event = PTRACE_EVENT_FORK;
  const bool wanted = (parent.tracing->options & (1U << event)) != 0;
  if (!wanted && (flags & CLONE_PTRACE) == 0) return 0;
  if (!begin_tracing_locked(*tracer, child, parent.tracing->seized, parent.tracing->options)) return 0;
  if (parent.tracing->seized)
    child.tracing->interrupt = true;
  else
    child.pending.add(user_signal(SIGSTOP, nullptr));
  child.attention = true;
  return wanted ? event : 0;
}

Result<void> run_in_tracee(Task& tracer, Task& task, std::unique_lock<std::mutex>& lock, std::function<void(Task&)> work) {
  const std::shared_ptr<Tracing> tracing = task.tracing;
  if (!tracing || !tracing->stopped || tracing->work) return Errno(ESRCH);
  const auto done = std::make_shared<std::atomic<bool>>(false);
  tracing->work = [work = std::move(work), done](Task& self) {
    work(self);
    *done = true;
  };
  task.wake();
  TaskWaiter waiter(tracer, tracing->changed, 0);
  while (!*done && tracing->stopped) {
    tracer.prepare_to_block();
    lock.unlock();
    const bool killed = !*done && !tracer.block_killable().ok();
    lock.lock();
    if (killed) return Errno(ESRCH);
  }
  if (!*done || !tracing->stopped) return Errno(ESRCH);
  return {};
}

namespace {

// PROT_* of the page, as the host has it mapped; -1: nothing is there.
int protection_of(Task& task, uint64_t address) {
  const Result<std::string> maps = read_host_proc((std::to_string(task.stub->process()->pid()) + "/maps").c_str());
  if (!maps) return -1;
  const char *at = maps->data(), *const end = at + maps->size();
  while (at < end) {
    const char* line_end = std::find(at, end, '\n');
    uint64_t first = 0, behind = 0;
    const auto one = std::from_chars(at, line_end, first, 16);
    const auto two = one.ptr < line_end ? std::from_chars(one.ptr + 1, line_end, behind, 16) : one;
    if (line_end - two.ptr > 5 && address >= first && address < behind) {
      const char* text = two.ptr + 1;
      return (text[0] == 'r' ? PROT_READ : 0) | (text[1] == 'w' ? PROT_WRITE : 0) | (text[2] == 'x' ? PROT_EXEC : 0);
    }
    at = line_end + 1;
  }
  return -1;
}

Result<void> force_write(Task& task, uint64_t address, const std::string& bytes) {
  constexpr uint64_t kPage = 4096;
  if (task.write_bytes(address, bytes.data(), bytes.size())) return {};
  for (size_t done = 0; done < bytes.size();) {
    const uint64_t at = address + done, page = at & ~(kPage - 1);
    const size_t now = std::min<size_t>(bytes.size() - done, page + kPage - at);
    const int protection = protection_of(task, page);
    if (protection < 0 || (page >= STUB_WINDOW && page < STUB_WINDOW_END)) return Errno(EIO);
    const auto protect = [&](int wanted) {
      return task.stub->run_one({.number = SYS_mprotect, .args = {page, kPage, static_cast<uint64_t>(wanted)}});
    };
    if (!protect(protection | PROT_READ | PROT_WRITE)) return Errno(EIO);
    const Result<void> written = task.write_bytes(at, bytes.data() + done, now);
    (void)protect(protection);
    if (!written) return Errno(EIO);
    done += now;
  }
  return {};
}

}  // namespace

Result<void> poke_memory(Task& tracer, pid_t tid, uint64_t address, std::string bytes) {
  std::unique_lock lock(tracer.kernel.tasks);
  Task* const task = TRY(find_tracee_locked(tracer, tid, false));
  const auto result = std::make_shared<Result<void>>();
  TRY(run_in_tracee(tracer, *task, lock, [=, bytes = std::move(bytes)](Task& self) { *result = force_write(self, address, bytes); }));
  return *result;
}

}  // namespace caisson::kernel
