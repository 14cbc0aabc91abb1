#include "kernel/signal/deliver.h"

#include <signal.h>
#include <sys/syscall.h>

#include "kernel/klog.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/signal/send.h"
#include "kernel/task/exit.h"
#include "kernel/task/kernel.h"
#include "kernel/trace/exit_stop.h"
#include "kernel/trace/trace.h"

namespace caisson::kernel {

using abi::sig_bit;

namespace {

constexpr uint64_t kRedZone = 128;
constexpr uint64_t kSyscallLength = 2;
constexpr uint64_t kDirectionFlag = 0x400, kTrapFlag = 0x100, kResumeFlag = 0x10000;
constexpr uint64_t kUcFlags = 1 | 2 | 4;  // UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
constexpr uint32_t kAutoDisarm = 1U << 31;
// What a guest may set in its flags: CF PF AF ZF SF TF DF OF RF AC ID.
constexpr uint64_t kUserFlags = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x200000;

bool on_alternate_stack(const Task& task, uint64_t sp) {
  const abi::SigStack& stack = task.alternate_stack;
  return (stack.flags & kAutoDisarm) == 0 && stack.size != 0 && sp > stack.sp && sp - stack.sp <= stack.size;
}

// An interrupted call: again, or EINTR. `action` null: no handler runs.
void settle_restart(Task& task, const abi::SigAction* action) {
  if (!task.in_syscall) return;
  task.in_syscall = false;
  const int64_t result = static_cast<int64_t>(task.registers().rax);
  if (result > -kRestartSys || result < -kRestartBlock) return;
  const int code = static_cast<int>(-result);
  const bool again = action == nullptr || code == kRestartNoIntr || (code == kRestartSys && (action->flags & abi::kSaRestart) != 0);
  if (!again) {
    task.registers().rax = static_cast<uint64_t>(-EINTR);
    return;
  }
  task.registers().rax = code == kRestartBlock ? SYS_restart_syscall : task.syscall_number;
  task.registers().rip -= kSyscallLength;
}

// Writes the frame and points the registers at the handler. No lock is held: guest memory may fault for long.
Result<void> enter_handler(Task& task, const abi::SigInfo& info, const abi::SigAction& action, abi::SigSet old_mask) {
  abi::Registers regs = task.registers();
  uint64_t sp = regs.rsp - kRedZone;
  const bool switches = (action.flags & abi::kSaOnStack) != 0 && task.alternate_stack.size != 0 && !on_alternate_stack(task, regs.rsp);
  if (switches) sp = task.alternate_stack.sp + task.alternate_stack.size;
  const std::vector<uint8_t> fp = task.stub->fp_state();
  uint64_t fp_address = 0;
  if (!fp.empty()) {
    sp = fp_address = (sp - fp.size()) & ~63ULL;
    TRY(task.write_bytes(fp_address, fp.data(), fp.size()));
  }
  const uint64_t address = ((sp - sizeof(abi::RtSigFrame)) & ~15ULL) - 8;
  abi::RtSigFrame frame{};
  frame.return_address = action.restorer;
  frame.uc.flags = kUcFlags;
  frame.uc.stack = task.alternate_stack;
  if (frame.uc.stack.size != 0 && on_alternate_stack(task, regs.rsp)) frame.uc.stack.flags |= SS_ONSTACK;
  frame.uc.regs = regs;
  frame.uc.regs.cs = 0x33;
  frame.uc.regs.ss = 0x2b;
  frame.uc.regs.oldmask = old_mask;
  frame.uc.fpstate = fp_address;
  frame.uc.mask = old_mask;
  frame.info = info;
  TRY(task.write_bytes(address, &frame, sizeof frame));
  if ((task.alternate_stack.flags & kAutoDisarm) != 0) task.alternate_stack = abi::SigStack();
  regs.rdi = info.signo;
  regs.rsi = address + offsetof(abi::RtSigFrame, info);
  regs.rdx = address + offsetof(abi::RtSigFrame, uc);
  regs.rax = 0;
  regs.rsp = address;
  regs.rip = action.handler;
  regs.eflags &= ~(kDirectionFlag | kTrapFlag | kResumeFlag);
  task.registers() = regs;
  task.stub->reset_fp_state();
  return {};
}

// The group stops, until SIGCONT or SIGKILL.
void stop_locked(Task& task, int signal) {
  ThreadGroup& group = *task.group;
  group.stopped = true;
  group.untold = WaitStatus{CLD_STOPPED, signal};
  notify_parent_locked(group, CLD_STOPPED, signal);
  for (Task* other : group.tasks)
    if (other != &task) kick_locked(*other);
}

void wait_while_stopped(Task& task, std::unique_lock<std::mutex>& lock) {
  const char* before = task.state;
  task.state = "T";
  while (task.group->stopped && !task.group->frozen && !task.leaving && (!task.tracing || task.tracing->listening)) {
    task.prepare_to_block();
    lock.unlock();
    (void)task.block_killable();
    lock.lock();
  }
  task.state = before;
}

// Frozen, but for a signal that ends it without asking it (cgroups(7)): SIGKILL, or another whose default that is.
bool stands_still(const Task& task) {
  const ThreadGroup& group = *task.group;
  if (!group.frozen || group.exiting || task.leaving) return false;
  const abi::SigSet waiting = (group.pending.set() | task.pending.set()) & ~task.blocked;
  for (int signal = 1; waiting != 0 && signal <= abi::kSignals; ++signal)
    if ((waiting & sig_bit(signal)) != 0 && default_action(signal) == DefaultAction::Terminate && group.handlers->get(signal).handler == 0)
      return false;
  return true;
}

void wait_while_frozen(Task& task, std::unique_lock<std::mutex>& lock) {
  task.frozen = true;
  count_frozen_locked(*task.group, 1);
  const char* before = task.state;
  task.state = "S";
  while (stands_still(task)) {
    task.prepare_to_block();
    lock.unlock();
    (void)task.block_killable();
    lock.lock();
  }
  task.state = before;
  task.frozen = false;
  count_frozen_locked(*task.group, -1);
}

// What SIG_DFL does. False: the task must end.
bool default_locked(Task& task, std::unique_lock<std::mutex>& lock, const abi::SigInfo& info) {
  ThreadGroup& group = *task.group;
  const bool fault = (sig_bit(info.signo) & kFaultSignals) != 0;
  switch (default_action(info.signo)) {
    case DefaultAction::Ignore:
    case DefaultAction::Continue:
      return true;
    case DefaultAction::Stop:
      if (info.signo == SIGSTOP || !is_orphaned_locked(group)) stop_locked(task, info.signo);
      return true;
    case DefaultAction::Terminate:
    case DefaultAction::Core:
      if (fault && klog_enabled(LogLevel::Debug))
        klog(LogLevel::Debug, "%d (%s): signal %d at %#lx, address %#lx", task.tid, task.name.c_str(), info.signo,
             static_cast<unsigned long>(task.registers().rip), static_cast<unsigned long>(info.fault.address));
      // No dumps are written: the code says "killed", as it does on a system with RLIMIT_CORE 0.
      trace_exit_locked(task, lock, info.signo);
      end_group_locked(group, CLD_KILLED, info.signo);
      return false;
  }
  return false;
}

}  // namespace

bool handle_signals(Task& task) {
  std::unique_lock lock(task.kernel.tasks);
  ThreadGroup& group = *task.group;
  for (;;) {
    task.attention.store(false, std::memory_order_seq_cst);
    if (task.leaving || group.exiting) return false;
    if (task.tracing && trace_attention_locked(task, lock)) continue;
    if (stands_still(task)) {
      wait_while_frozen(task, lock);
      continue;
    }
    if (group.stopped) {
      wait_while_stopped(task, lock);
      continue;
    }
    abi::SigInfo info;
    if (!task.pending.take(task.blocked, &info) && !group.pending.take(task.blocked, &info)) break;
    if (info.signo == SIGKILL) {
      end_group_locked(group, CLD_KILLED, SIGKILL);
      return false;
    }
    if (task.tracing) {
      const bool wanted = trace_signal_locked(task, lock, info);
      if (task.leaving || group.exiting) return false;
      if (!wanted) {
        task.forced_fatal = false;
        continue;
      }
    }
    const abi::SigAction action = group.handlers->get(info.signo);
    const bool fatal = task.forced_fatal && (sig_bit(info.signo) & kFaultSignals) != 0;
    if (action.handler == 1 && !fatal) continue;
    if (action.handler == 0 || fatal) {
      task.forced_fatal = false;
      if (!default_locked(task, lock, info)) return false;
      continue;
    }
    settle_restart(task, &action);
    const abi::SigSet old_mask = task.saved_mask.value_or(task.blocked);
    task.saved_mask.reset();
    if ((action.flags & abi::kSaResetHand) != 0) {
      abi::SigAction reset = action;
      reset.handler = 0;
      group.handlers->set(info.signo, reset);
    }
    lock.unlock();
    const Result<void> entered = enter_handler(task, info, action, old_mask);
    lock.lock();
    if (!entered) {
      klog(LogLevel::Debug, "%d (%s): no room for the frame of signal %d", task.tid, task.name.c_str(), info.signo);
      end_group_locked(group, CLD_KILLED, SIGSEGV);
      return false;
    }
    task.blocked |= action.mask;
    if ((action.flags & abi::kSaNoDefer) == 0) task.blocked |= sig_bit(info.signo);
    task.blocked &= ~kUnblockable;
  }
  settle_restart(task, nullptr);
  if (task.saved_mask) {
    task.blocked = *task.saved_mask;
    task.saved_mask.reset();
    // What the old mask lets through is delivered now.
    abi::SigSet waiting = (task.pending.set() | group.pending.set()) & ~task.blocked;
    if (waiting != 0) task.attention = true;
  }
  return true;
}

Result<void> return_from_signal(Task& task) {
  const uint64_t address = task.registers().rsp;
  abi::UContext uc;
  TRY(task.read_bytes(address, &uc, sizeof uc));
  if (uc.fpstate != 0) {
    std::vector<uint8_t> fp(task.stub->fp_state_size());
    TRY(task.read_bytes(uc.fpstate, fp.data(), fp.size()));
    if (!fp.empty()) TRY(task.stub->set_fp_state(fp));
  } else {
    task.stub->reset_fp_state();
  }
  const uint64_t system_flags = task.registers().eflags & ~kUserFlags;
  task.registers() = uc.regs;
  task.registers().eflags = system_flags | (uc.regs.eflags & kUserFlags);
  std::lock_guard guard(task.kernel.tasks);
  task.blocked = uc.mask & ~kUnblockable;
  task.attention = true;
  if ((uc.stack.flags & SS_DISABLE) != 0 || uc.stack.size == 0)
    task.alternate_stack = abi::SigStack();
  else
    task.alternate_stack = {uc.stack.sp, uc.stack.flags & static_cast<int32_t>(kAutoDisarm), 0, uc.stack.size};
  return {};
}

}  // namespace caisson::kernel
