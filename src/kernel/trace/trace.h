// Tracing by ptrace(2): one Tracing for each traced task. A traced task stops in its own host thread (the stops of ptrace(2), "Stopped
// states"), and its tracer looks at it and lets it go on by sys_ptrace.
//
// All of it is guarded by Kernel::tasks ("_locked": it is held). A stopped task's own thread makes what needs the stub (Tracing::work).
#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "kernel/abi/signal.h"
#include "kernel/errno.h"
#include "kernel/task/wait.h"
#include "kernel/trace/debug_registers.h"

namespace caisson::kernel {

class Task;
class ThreadGroup;
struct WaitStatus;

class Tracing {
 public:
  std::weak_ptr<ThreadGroup> tracer;
  bool seized = false;   // by PTRACE_SEIZE
  unsigned options = 0;  // PTRACE_O_*

  // The stop that the task is in, or was in last.
  bool stopped = false;
  bool told = false;          // wait has told of it
  int code = 0;               // signal | event << 8
  bool has_info = false;      // `info` is of a signal; false: a group stop
  abi::SigInfo info;          // PTRACE_SETSIGINFO changes it
  unsigned long message = 0;  // PTRACE_GETEVENTMSG
  enum class At { Elsewhere, CallEntry, CallExit, Seccomp } at = At::Elsewhere;

  // How it goes on.
  int signal = 0;
  bool interrupt = false;  // PTRACE_INTERRUPT: stop soon
  bool listening = false;  // PTRACE_LISTEN: a group stop lasts
  bool step = false;       // one instruction is what the tracer wants; else a step is for the debug registers' sake
  DebugRegisters debug;

  // What the stopped task's thread is to do for the tracer.
  std::function<void(Task&)> work;
  WaitQueue changed;
};

// A traced task of the tracer's thread group: stopped, or (any: true) in whatever state. ESRCH.
Result<Task*> find_tracee_locked(Task& tracer, pid_t tid, bool any);
// `tracer` traces `task` from now on. EPERM: somebody does already.
Result<void> begin_tracing_locked(ThreadGroup& tracer, Task& task, bool seized, unsigned options);
void end_tracing_locked(Task& task, int signal);
// By somebody without CAP_SYS_PTRACE: exec gives the task no new rights then.
bool traced_by_weaker_locked(const Task& task);
// The tracer has ended: its tracees go on, or end (PTRACE_O_EXITKILL).
void tracer_ended_locked(ThreadGroup& tracer);
// The task has left; its tracer is told where it would not learn it as its parent.
void tracee_ended_locked(Task& task);
void traced_group_ended_locked(ThreadGroup& group);

// Lets a stopped task go on. step: for one instruction; calls: stop at the next call's entry and exit.
void resume_tracee_locked(Task& task, int signal, bool step, bool calls);

// Stops; `lock` is of Kernel::tasks. Returns the signal that the tracer wants delivered, 0 for none (also where nobody traces any more).
int trace_stop_locked(Task& task, std::unique_lock<std::mutex>& lock, int code, const abi::SigInfo* info, unsigned long message = 0);
// Before a signal is acted upon: the one to be delivered instead, in `info`; false: none.
bool trace_signal_locked(Task& task, std::unique_lock<std::mutex>& lock, abi::SigInfo& info);
// PTRACE_INTERRUPT, group stops and their end. True: it has stopped, everything is to be looked at again.
bool trace_attention_locked(Task& task, std::unique_lock<std::mutex>& lock);

// Stops around a system call (Task::trace_calls). The registers show the number in rax before, and afterwards the result.
void trace_call_begins(Task& task);
void trace_call_ends(Task& task);
// SECCOMP_RET_TRACE with that data. False: no tracer wants to know. Afterwards the call's number is Task::syscall_number (the tracer may
// have changed it; negative: no call), and its arguments, or the result where there is no call, are in the registers.
bool trace_seccomp(Task& task, unsigned long data);
// exec has succeeded.
void trace_exec(Task& task);
// PTRACE_EVENT_FORK... for a new task: whether the tracer wants to know; then the child is traced, too. 0: no event.
int trace_clone_locked(Task& parent, Task& child, uint64_t flags);
void trace_event(Task& task, int event, unsigned long message);
void trace_vfork_done(Task& task, pid_t child);
// One instruction was wanted, or something is watched, and it was a system call.
void trace_step_ends(Task& task);

// Has the stopped task's own thread run `work`, and waits for it. The lock is released meanwhile. ESRCH: the task has gone on or ended.
Result<void> run_in_tracee(Task& tracer, Task& task, std::unique_lock<std::mutex>& lock, std::function<void(Task&)> work);
// Writes into a stopped tracee's memory whatever its protection says (breakpoints). EIO, ESRCH.
Result<void> poke_memory(Task& tracer, pid_t tid, uint64_t address, std::string bytes);

}  // namespace caisson::kernel
