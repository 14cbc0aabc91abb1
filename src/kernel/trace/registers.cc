#include "kernel/trace/registers.h"

#include <string.h>
#include <sys/syscall.h>

#include <vector>

#include "kernel/platform/stub_thread.h"
#include "kernel/task/task.h"
#include "kernel/trace/trace.h"

namespace caisson::kernel {
namespace {

// CF PF AF ZF SF TF DF OF RF AC ID: what a program may change.
constexpr uint64_t kUserFlags = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x200000;
// The host's software area in the legacy part: magic, sizes and components (struct _fpx_sw_bytes); XCR0 in ptrace's layout.
constexpr size_t kSoftware = 464, kSoftwareSize = 48, kComponents = kSoftware + 8, kStateSize = kSoftware + 16, kLegacy = 512;

bool in_call(const Task& task) { return task.in_syscall || (task.tracing && task.tracing->at != Tracing::At::Elsewhere); }

}  // namespace

user_regs_struct registers_of_locked(const Task& task, uint64_t fs_base) {
  const abi::Registers& from = task.stopped_registers();
  user_regs_struct to{};
  to.r15 = from.r15;
  to.r14 = from.r14;
  to.r13 = from.r13;
  to.r12 = from.r12;
  to.rbp = from.rbp;
  to.rbx = from.rbx;
  to.r11 = from.r11;
  to.r10 = from.r10;
  to.r9 = from.r9;
  to.r8 = from.r8;
  to.rax = from.rax;
  to.rcx = from.rcx;
  to.rdx = from.rdx;
  to.rsi = from.rsi;
  to.rdi = from.rdi;
  to.orig_rax = in_call(task) ? task.syscall_number : ~0ULL;
  to.rip = from.rip;
  to.cs = 0x33;
  to.eflags = from.eflags;
  to.rsp = from.rsp;
  to.ss = 0x2b;
  to.fs_base = fs_base;
  return to;
}

void set_registers_locked(Task& task, const user_regs_struct& wanted) {
  abi::Registers& to = task.stopped_registers();
  // Atomic: on its way to sleep the task notes some of its registers (Task::note_sleep), stopped as it is already.
  const auto put = [](auto& place, uint64_t value) { __atomic_store_n(&place, value, __ATOMIC_RELAXED); };
  put(to.r15, wanted.r15);
  put(to.r14, wanted.r14);
  put(to.r13, wanted.r13);
  put(to.r12, wanted.r12);
  put(to.rbp, wanted.rbp);
  put(to.rbx, wanted.rbx);
  put(to.r11, wanted.r11);
  put(to.r10, wanted.r10);
  put(to.r9, wanted.r9);
  put(to.r8, wanted.r8);
  put(to.rax, wanted.rax);
  put(to.rcx, wanted.rcx);
  put(to.rdx, wanted.rdx);
  put(to.rsi, wanted.rsi);
  put(to.rdi, wanted.rdi);
  put(to.rip, wanted.rip);
  put(to.rsp, wanted.rsp);
  to.eflags = (to.eflags & ~kUserFlags) | (wanted.eflags & kUserFlags);
  if (!in_call(task)) return;
  // Without a number no interrupted call begins again.
  if (static_cast<int64_t>(wanted.orig_rax) < 0 && task.tracing->at == Tracing::At::Elsewhere) task.in_syscall = false;
  task.syscall_number = wanted.orig_rax;
}

uint64_t read_fs_base(Task& task) {
  constexpr uint64_t kGetFs = 0x1003;
  // The answer needs a place in the guest's memory: below its stack's red zone, put back afterwards.
  const UserPtr<uint64_t> place((task.registers().rsp - 512) & ~15ULL);
  const Result<uint64_t> before = task.read(place);
  if (!before || !task.stub->run_one({.number = SYS_arch_prctl, .args = {kGetFs, place.address()}})) return 0;
  const Result<uint64_t> base = task.read(place);
  (void)task.write(place, *before);
  return base ? *base : 0;
}

void set_fs_base(Task& task, uint64_t base) {
  constexpr uint64_t kSetFs = 0x1002;
  (void)task.stub->run_one({.number = SYS_arch_prctl, .args = {kSetFs, base}});
}

std::string fp_registers_locked(Task& task) {
  const std::vector<uint8_t> state = task.stub->fp_state();
  if (state.size() < kLegacy) return {};
  std::string out(state.begin(), state.end());
  uint64_t components = 0;
  uint32_t size = 0;
  memcpy(&components, out.data() + kComponents, sizeof components);
  memcpy(&size, out.data() + kStateSize, sizeof size);
  memset(out.data() + kSoftware, 0, kSoftwareSize);
  memcpy(out.data() + kSoftware, &components, sizeof components);
  // The host's frame has a mark behind the state.
  if (size >= kLegacy && size <= out.size()) out.resize(size);
  return out;
}

Result<void> set_fp_registers_locked(Task& task, const std::string& wanted) {
  std::vector<uint8_t> state = task.stub->fp_state();
  if (state.size() < kLegacy || wanted.size() > state.size()) return Errno(EINVAL);
  memcpy(state.data(), wanted.data(), std::min(wanted.size(), kSoftware));
  if (wanted.size() > kLegacy) memcpy(state.data() + kLegacy, wanted.data() + kLegacy, wanted.size() - kLegacy);
  return task.stub->set_fp_state(state);
}

}  // namespace caisson::kernel
