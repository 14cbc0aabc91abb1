#include "kernel/seccomp/enforce.h"

#include <linux/audit.h>
#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>

#include "kernel/klog.h"
#include "kernel/patch/call_sites.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/seccomp/listener.h"
#include "kernel/signal/send.h"
#include "kernel/task/kernel.h"
#include "kernel/trace/trace.h"

namespace caisson::kernel {
namespace {

constexpr int kSysSeccomp = 1;  // SYS_SECCOMP, si_code

void tell(const Task& task, const seccomp_data& call, const char* what) {
  klog(LogLevel::Info, "%d (%s): seccomp: %s system call %d of architecture %#x at %#lx", task.tid, task.name.c_str(), what, call.nr,
       call.arch, static_cast<unsigned long>(call.instruction_pointer));
}

void end_process(Task& task, int signal) {
  std::lock_guard guard(task.kernel.tasks);
  end_group_locked(*task.group, CLD_KILLED, signal);
}

// The thread alone, if there are others (seccomp(2), SECCOMP_RET_KILL_THREAD).
void end_thread(Task& task, int signal) {
  std::lock_guard guard(task.kernel.tasks);
  if (task.group->tasks.size() == 1)
    end_group_locked(*task.group, CLD_KILLED, signal);
  else
    task.leaving = true;
}

// SIGSYS, with the registers as they were before the call.
long trap(Task& task, const seccomp_data& call, uint32_t data) {
  abi::SigInfo info;
  info.signo = SIGSYS;
  info.error = static_cast<int>(data);
  info.code = kSysSeccomp;
  info.sys.call_address = call.instruction_pointer;
  info.sys.syscall = call.nr;
  info.sys.arch = call.arch;
  task.in_syscall = false;
  force_signal(task, info);
  return static_cast<long>(task.call_registers().rax);
}

seccomp_data call_of(Task& task) {
  const abi::Registers& regs = task.registers();
  return {static_cast<int>(task.syscall_number), AUDIT_ARCH_X86_64, regs.rip, {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9}};
}

std::optional<long> act(Task& task, const seccomp_data& call, const SeccompAnswer& answer);

// What the tracer has made of the call goes to the filters once more, and to no tracer (seccomp(2), SECCOMP_RET_TRACE).
std::optional<long> ask_tracer(Task& task, const seccomp_data& first, uint32_t data) {
  if (!trace_seccomp(task, data) || first.arch != AUDIT_ARCH_X86_64) return -ENOSYS;
  if (task.dying() || static_cast<int>(task.syscall_number) < 0) return static_cast<long>(task.call_registers().rax);
  const std::shared_ptr<const SeccompState> state = task.seccomp.get();
  const seccomp_data call = call_of(task);
  const SeccompAnswer again = state->ask(call);
  if ((again.value & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_TRACE) return std::nullopt;
  return act(task, call, again);
}

std::optional<long> act(Task& task, const seccomp_data& call, const SeccompAnswer& answer) {
  const uint32_t data = answer.value & SECCOMP_RET_DATA;
  switch (answer.value & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_LOG:
      tell(task, call, "logged");
      [[fallthrough]];
    case SECCOMP_RET_ALLOW:
      return std::nullopt;
    case SECCOMP_RET_ERRNO:
      if (answer.filter->log) tell(task, call, "refused");
      return -static_cast<long>(std::min<uint32_t>(data, 4095));
    case SECCOMP_RET_TRAP:
      if (answer.filter->log) tell(task, call, "trapped");
      return trap(task, call, data);
    case SECCOMP_RET_TRACE:
      return ask_tracer(task, call, data);
    case SECCOMP_RET_USER_NOTIF: {
      if (!answer.filter->listener) return -ENOSYS;
      const Result<std::optional<long>> told = answer.filter->listener->ask(task, call);
      return told ? *told : std::optional<long>(-told.error().value);
    }
    case SECCOMP_RET_KILL_THREAD:
      tell(task, call, "the thread ends for");
      end_thread(task, SIGSYS);
      return 0;
    default:  // SECCOMP_RET_KILL_PROCESS, and what there is not
      tell(task, call, "the process ends for");
      end_process(task, SIGSYS);
      return 0;
  }
}

// Where a call is made is what the stub's shared pages say, which another thread of the guest's can write. What it says is believed where
// there is such an instruction, or was before it became a jump: to name that place is no more than to jump there.
bool is_made_there(Task& task, const seccomp_data& call) {
  const uint64_t at = call.instruction_pointer - kCallLength;
  if (task.memory->call_sites().is_site(at)) return true;
  uint8_t bytes[kCallLength];
  if (!read_guest(task.host_tid(), at, bytes, sizeof bytes)) return false;
  if (call.arch == AUDIT_ARCH_X86_64) return bytes[0] == 0x0f && bytes[1] == 0x05;
  return (bytes[0] == 0xcd && bytes[1] == 0x80) || (bytes[0] == 0x0f && bytes[1] == 0x34);  // int $0x80, sysenter
}

std::optional<long> check(Task& task, const seccomp_data& call) {
  const std::shared_ptr<const SeccompState> state = task.seccomp.get();
  if (!state || state->always_allows(call.arch, static_cast<uint32_t>(call.nr))) return std::nullopt;
  if (state->looks_at_place() && !is_made_there(task, call)) {
    tell(task, call, "no such instruction: the process ends for");
    end_process(task, SIGKILL);
    return 0;
  }
  if (state->mode() == SECCOMP_MODE_FILTER) return act(task, call, state->ask(call));
  tell(task, call, "strict mode: the thread ends for");
  end_thread(task, SIGKILL);
  return 0;
}

}  // namespace

std::optional<long> check_seccomp(Task& task) { return check(task, call_of(task)); }

long refuse_foreign_call(Task& task) {
  // As the kernel has them for int 0x80: 32 bits of ebx, ecx, edx, esi, edi, ebp.
  const abi::Registers& regs = task.registers();
  const auto low = [](uint64_t value) { return static_cast<uint64_t>(static_cast<uint32_t>(value)); };
  const seccomp_data call{static_cast<int>(regs.rax),
                          AUDIT_ARCH_I386,
                          regs.rip,
                          {low(regs.rbx), low(regs.rcx), low(regs.rdx), low(regs.rsi), low(regs.rdi), low(regs.rbp)}};
  if (!task.seccomp.on()) return -ENOSYS;
  return check(task, call).value_or(-ENOSYS);
}

Result<void> enforce_seccomp(Task& task, const SeccompState& state) {
  if (task.stub->process()->traps_everything() || !state.wants_native_calls()) return {};
  return task.stub->trap_everything();
}

}  // namespace caisson::kernel
