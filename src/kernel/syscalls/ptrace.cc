// ptrace(2).
#include "kernel/syscalls/ptrace.h"

#include <elf.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "kernel/signal/send.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"
#include "kernel/trace/registers.h"
#include "kernel/trace/trace.h"

namespace caisson::kernel {
namespace {

enum Request {
  kTraceMe = 0,
  kPeekText,
  kPeekData,
  kPeekUser,
  kPokeText,
  kPokeData,
  kPokeUser,
  kContinue,
  kKill,
  kSingleStep,
  kGetRegisters = 12,
  kSetRegisters,
  kGetFpRegisters,
  kSetFpRegisters,
  kAttach,
  kDetach,
  kSystemCall = 24,
};
constexpr int kKnownOptions = 0xff | PTRACE_O_EXITKILL;

// A stopped tracee, with the lock held for as long as this lives.
struct Stopped {
  std::unique_lock<std::mutex> lock;
  Task* task;
  static Result<Stopped> find(Task& tracer, pid_t tid) {
    std::unique_lock lock(tracer.kernel.tasks);
    Task* const task = TRY(find_tracee_locked(tracer, tid, false));
    return Stopped{std::move(lock), task};
  }
};

Result<void> may_trace(const Task& task, const Task& other) {
  if (task.group == other.group || !may_look_into(task, other)) return Errno(EPERM);
  return {};
}

Result<long> trace_me(Task& task) {
  std::lock_guard guard(task.kernel.tasks);
  const std::shared_ptr<ThreadGroup> parent = task.group->parent.lock();
  if (!parent || parent->zombie) return Errno(EPERM);
  TRY(begin_tracing_locked(*parent, task, false, 0));
  return 0L;
}

Result<long> attach(Task& task, pid_t tid, bool seize, uint64_t address, uint64_t options) {
  if (seize && (address != 0 || (options & ~static_cast<uint64_t>(kKnownOptions)) != 0)) return Errno(EIO);
  std::lock_guard guard(task.kernel.tasks);
  const auto found = task.group->pids->tasks.find(tid);
  if (found == task.group->pids->tasks.end()) return Errno(ESRCH);
  Task& other = *found->second;
  TRY(may_trace(task, other));
  TRY(begin_tracing_locked(*task.group, other, seize, seize ? static_cast<unsigned>(options) : 0));
  if (!seize) send_to_task_locked(other, user_signal(SIGSTOP, nullptr));
  kick_locked(other);  // if it is stopped, as a tracee from now on
  return 0L;
}

Result<long> go_on(Task& task, pid_t tid, Request request, uint64_t signal) {
  if (signal > abi::kSignals) return Errno(EIO);
  const Stopped stopped = TRY(Stopped::find(task, tid));
  if (request == kDetach)
    end_tracing_locked(*stopped.task, static_cast<int>(signal));
  else
    resume_tracee_locked(*stopped.task, static_cast<int>(signal), request == kSingleStep, request == kSystemCall);
  return 0L;
}

Result<user_regs_struct> read_registers(Task& task, pid_t tid) {
  Stopped stopped = TRY(Stopped::find(task, tid));
  const auto base = std::make_shared<uint64_t>(0);
  TRY(run_in_tracee(task, *stopped.task, stopped.lock, [base](Task& self) { *base = read_fs_base(self); }));
  return registers_of_locked(*stopped.task, *base);
}

Result<void> write_registers(Task& task, pid_t tid, const user_regs_struct& wanted) {
  const user_regs_struct now = TRY(read_registers(task, tid));
  Stopped stopped = TRY(Stopped::find(task, tid));
  set_registers_locked(*stopped.task, wanted);
  if (wanted.fs_base == now.fs_base) return {};
  return run_in_tracee(task, *stopped.task, stopped.lock, [base = wanted.fs_base](Task& self) { set_fs_base(self, base); });
}

Result<long> peek(Task& task, pid_t tid, uint64_t address, uint64_t to) {
  pid_t host;
  {
    const Stopped stopped = TRY(Stopped::find(task, tid));
    host = stopped.task->host_tid();
  }
  uint64_t word;
  if (!read_guest(host, address, &word, sizeof word)) return Errno(EIO);
  TRY(task.write(UserPtr<uint64_t>(to), word));
  return 0L;
}

Result<long> poke(Task& task, pid_t tid, uint64_t address, uint64_t word) {
  TRY(poke_memory(task, tid, address, std::string(reinterpret_cast<const char*>(&word), sizeof word)));
  return 0L;
}

constexpr uint64_t kDebugRegisters = offsetof(user, u_debugreg), kDebugRegistersEnd = kDebugRegisters + 8 * DebugRegisters::kCount;
bool is_debug_register(uint64_t offset) { return offset >= kDebugRegisters && offset < kDebugRegistersEnd; }

// struct user: the general registers, and the debug registers.
Result<long> peek_user(Task& task, pid_t tid, uint64_t offset, uint64_t to) {
  if (offset % 8 != 0 || offset > sizeof(user) - 8) return Errno(EIO);
  if (is_debug_register(offset)) {
    uint64_t value;
    {
      const Stopped stopped = TRY(Stopped::find(task, tid));
      value = stopped.task->tracing->debug.get((offset - kDebugRegisters) / 8);
    }
    TRY(task.write(UserPtr<uint64_t>(to), value));
    return 0L;
  }
  const user_regs_struct registers = TRY(read_registers(task, tid));
  uint64_t word = 0;
  if (offset < sizeof registers) memcpy(&word, reinterpret_cast<const char*>(&registers) + offset, sizeof word);
  TRY(task.write(UserPtr<uint64_t>(to), word));
  return 0L;
}

Result<long> poke_user(Task& task, pid_t tid, uint64_t offset, uint64_t word) {
  if (offset % 8 != 0 || offset > sizeof(user) - 8) return Errno(EIO);
  if (is_debug_register(offset)) {
    const Stopped stopped = TRY(Stopped::find(task, tid));
    TRY(stopped.task->tracing->debug.set((offset - kDebugRegisters) / 8, word));
    return 0L;
  }
  user_regs_struct registers = TRY(read_registers(task, tid));
  if (offset >= sizeof registers) return word == 0 ? Result<long>(0L) : Errno(EIO);
  memcpy(reinterpret_cast<char*>(&registers) + offset, &word, sizeof word);
  TRY(write_registers(task, tid, registers));
  return 0L;
}

Result<std::string> register_set(Task& task, pid_t tid, uint64_t kind) {
  if (kind == NT_PRSTATUS) {
    const user_regs_struct registers = TRY(read_registers(task, tid));
    return std::string(reinterpret_cast<const char*>(&registers), sizeof registers);
  }
  if (kind != NT_PRFPREG && kind != NT_X86_XSTATE) return Errno(EINVAL);
  const Stopped stopped = TRY(Stopped::find(task, tid));
  std::string state = fp_registers_locked(*stopped.task);
  if (state.empty()) return Errno(ENODEV);
  if (kind == NT_PRFPREG) state.resize(sizeof(user_fpregs_struct));
  return state;
}

Result<void> set_register_set(Task& task, pid_t tid, uint64_t kind, const std::string& bytes) {
  if (kind == NT_PRSTATUS) {
    user_regs_struct registers = TRY(read_registers(task, tid));
    if (bytes.size() % 8 != 0) return Errno(EINVAL);
    memcpy(&registers, bytes.data(), std::min(bytes.size(), sizeof registers));
    return write_registers(task, tid, registers);
  }
  if (kind != NT_PRFPREG && kind != NT_X86_XSTATE) return Errno(EINVAL);
  const Stopped stopped = TRY(Stopped::find(task, tid));
  return set_fp_registers_locked(*stopped.task, bytes);
}

Result<long> move_register_set(Task& task, pid_t tid, uint64_t kind, uint64_t vector, bool sets) {
  iovec place = TRY(task.read(UserPtr<iovec>(vector)));
  const uint64_t base = reinterpret_cast<uint64_t>(place.iov_base);
  if (sets) {
    std::string bytes(std::min<size_t>(place.iov_len, 16384), '\0');
    TRY(task.read_bytes(base, bytes.data(), bytes.size()));
    TRY(set_register_set(task, tid, kind, bytes));
    return 0L;
  }
  const std::string bytes = TRY(register_set(task, tid, kind));
  place.iov_len = std::min(place.iov_len, bytes.size());
  TRY(task.write_bytes(base, bytes.data(), place.iov_len));
  TRY(task.write(UserPtr<iovec>(vector), place));
  return 0L;
}

Result<long> whole_set(Task& task, pid_t tid, uint64_t kind, uint64_t address, size_t size, bool sets) {
  if (sets) {
    std::string bytes(size, '\0');
    TRY(task.read_bytes(address, bytes.data(), size));
    TRY(set_register_set(task, tid, kind, bytes));
    return 0L;
  }
  const std::string bytes = TRY(register_set(task, tid, kind));
  TRY(task.write_bytes(address, bytes.data(), std::min(size, bytes.size())));
  return 0L;
}

Result<long> signal_mask(Task& task, pid_t tid, uint64_t size, uint64_t at, bool sets) {
  if (size != sizeof(abi::SigSet)) return Errno(EINVAL);
  abi::SigSet set = sets ? TRY(task.read(UserPtr<abi::SigSet>(at))) : 0;
  {
    const Stopped stopped = TRY(Stopped::find(task, tid));
    if (sets)
      stopped.task->blocked = set & ~kUnblockable;
    else
      set = stopped.task->saved_mask.value_or(stopped.task->blocked);
  }
  if (!sets) TRY(task.write(UserPtr<abi::SigSet>(at), set));
  return 0L;
}

Result<long> signal_info(Task& task, pid_t tid, uint64_t at, bool sets) {
  abi::SigInfo info;
  if (sets) info = TRY(task.read(UserPtr<abi::SigInfo>(at)));
  {
    const Stopped stopped = TRY(Stopped::find(task, tid));
    Tracing& tracing = *stopped.task->tracing;
    if (!tracing.has_info) return Errno(EINVAL);
    if (sets)
      tracing.info = info;
    else
      info = tracing.info;
  }
  if (!sets) TRY(task.write(UserPtr<abi::SigInfo>(at), info));
  return 0L;
}

Result<long> call_info(Task& task, pid_t tid, uint64_t size, uint64_t to) {
  ptrace_syscall_info info{};
  size_t actual = offsetof(ptrace_syscall_info, entry);
  {
    const Stopped stopped = TRY(Stopped::find(task, tid));
    const Task& other = *stopped.task;
    const abi::Registers& regs = other.stopped_registers();
    info.arch = 0xc000003e;  // AUDIT_ARCH_X86_64
    info.instruction_pointer = regs.rip;
    info.stack_pointer = regs.rsp;
    if (other.tracing->at == Tracing::At::CallEntry || other.tracing->at == Tracing::At::Seccomp) {
      // That of a filter begins as that of a call's entry does.
      info.op = PTRACE_SYSCALL_INFO_ENTRY;
      info.entry.nr = other.syscall_number;
      const uint64_t arguments[] = {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9};
      memcpy(info.entry.args, arguments, sizeof arguments);
      actual = offsetof(ptrace_syscall_info, entry.args) + sizeof info.entry.args;
      if (other.tracing->at == Tracing::At::Seccomp) {
        info.op = PTRACE_SYSCALL_INFO_SECCOMP;
        info.seccomp.ret_data = static_cast<uint32_t>(other.tracing->message);
        actual = offsetof(ptrace_syscall_info, seccomp.ret_data) + sizeof info.seccomp.ret_data;
      }
    } else if (other.tracing->at == Tracing::At::CallExit) {
      info.op = PTRACE_SYSCALL_INFO_EXIT;
      info.exit.rval = static_cast<int64_t>(regs.rax);
      info.exit.is_error = info.exit.rval < 0 && info.exit.rval >= -4095;
      actual = offsetof(ptrace_syscall_info, exit.is_error) + sizeof info.exit.is_error;
    }
  }
  TRY(task.write_bytes(to, &info, std::min<size_t>(size, actual)));
  return static_cast<long>(actual);
}

Result<long> stopped_request(Task& task, long request, pid_t tid, uint64_t address, uint64_t data) {
  switch (request) {
    case PTRACE_SETOPTIONS: {
      if ((data & ~static_cast<uint64_t>(kKnownOptions)) != 0) return Errno(EINVAL);
      const Stopped stopped = TRY(Stopped::find(task, tid));
      stopped.task->tracing->options = static_cast<unsigned>(data);
      return 0L;
    }
    case PTRACE_GETEVENTMSG: {
      unsigned long message;
      {
        const Stopped stopped = TRY(Stopped::find(task, tid));
        message = stopped.task->tracing->message;
      }
      TRY(task.write(UserPtr<unsigned long>(data), message));
      return 0L;
    }
    case PTRACE_GETSIGINFO:
    case PTRACE_SETSIGINFO:
      return signal_info(task, tid, data, request == PTRACE_SETSIGINFO);
    case PTRACE_GETREGSET:
    case PTRACE_SETREGSET:
      return move_register_set(task, tid, address, data, request == PTRACE_SETREGSET);
    case PTRACE_GETSIGMASK:
    case PTRACE_SETSIGMASK:
      return signal_mask(task, tid, address, data, request == PTRACE_SETSIGMASK);
    case PTRACE_GET_SYSCALL_INFO:
      return call_info(task, tid, address, data);
    case PTRACE_LISTEN: {
      const Stopped stopped = TRY(Stopped::find(task, tid));
      Tracing& tracing = *stopped.task->tracing;
      if (!tracing.seized || (tracing.code >> 8) != PTRACE_EVENT_STOP) return Errno(EIO);
      tracing.listening = true;
      tracing.stopped = false;
      stopped.task->wake();
      return 0L;
    }
    default:
      return Errno(EIO);
  }
}

Result<long> sys_ptrace(Task& task, long request, int tid, unsigned long address, unsigned long data) {
  switch (request) {
    case kTraceMe:
      return trace_me(task);
    case kAttach:
    case PTRACE_SEIZE:
      return attach(task, tid, request == PTRACE_SEIZE, address, data);
    case PTRACE_INTERRUPT:
    case kKill: {
      std::lock_guard guard(task.kernel.tasks);
      Task* const other = TRY(find_tracee_locked(task, tid, true));
      if (request == kKill) {
        send_to_task_locked(*other, user_signal(SIGKILL, nullptr));
        return 0L;
      }
      if (!other->tracing->seized) return Errno(EIO);
      // It has stopped for a tracer that wants to know of such stops already: one is enough.
      if (other->tracing->stopped && other->tracing->code >> 8 == PTRACE_EVENT_STOP) return 0L;
      other->tracing->interrupt = true;
      kick_locked(*other);
      return 0L;
    }
    case kPeekText:
    case kPeekData:
      return peek(task, tid, address, data);
    case kPokeText:
    case kPokeData:
      return poke(task, tid, address, data);
    case kPeekUser:
      return peek_user(task, tid, address, data);
    case kPokeUser:
      return poke_user(task, tid, address, data);
    case kContinue:
    case kSingleStep:
    case kSystemCall:
    case kDetach:
      return go_on(task, tid, static_cast<Request>(request), data);
    case kGetRegisters:
    case kSetRegisters:
      return whole_set(task, tid, NT_PRSTATUS, data, sizeof(user_regs_struct), request == kSetRegisters);
    case kGetFpRegisters:
    case kSetFpRegisters:
      return whole_set(task, tid, NT_PRFPREG, data, sizeof(user_fpregs_struct), request == kSetFpRegisters);
    default:
      return stopped_request(task, request, tid, address, data);
  }
}

}  // namespace

bool may_look_into(const Task& task, const Task& other) {
  if (task.group == other.group) return true;
  const Credentials &ours = *task.creds, &theirs = *other.creds;
  const bool same = ours.uid == theirs.uid && ours.uid == theirs.euid && ours.uid == theirs.suid && ours.gid == theirs.gid &&
                    ours.gid == theirs.egid && ours.gid == theirs.sgid && (theirs.permitted & ~ours.permitted) == 0;
  return ours.has_in(*theirs.user, kCapSysPtrace) || (same && other.group->dumpable);
}

std::span<const SyscallRow> ptrace_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(
          ptrace, 101, Partial,
          "watchpoints tell of changes, not of accesses; of a process that ends only the thread that ends it stops for PTRACE_O_TRACEEXIT"),
  };
  return rows;
}

}  // namespace caisson::kernel
