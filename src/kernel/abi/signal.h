// Signals as the x86-64 system call interface has them (arch/x86/include/uapi/asm/{signal,sigcontext,ucontext}.h). The C library's types
// differ in size.
#pragma once

#include <cstdint>

namespace caisson::kernel::abi {

inline constexpr int kSignals = 64;

// Bit n-1 is signal n.
using SigSet = uint64_t;
constexpr SigSet sig_bit(int signal) { return 1ULL << (signal - 1); }

struct SigAction {
  uint64_t handler = 0;  // 0 SIG_DFL, 1 SIG_IGN
  uint64_t flags = 0;
  uint64_t restorer = 0;
  SigSet mask = 0;
};
static_assert(sizeof(SigAction) == 32);

inline constexpr uint64_t kSaNoCldStop = 1, kSaNoCldWait = 2, kSaSigInfo = 4, kSaOnStack = 0x08000000, kSaRestart = 0x10000000,
                          kSaNoDefer = 0x40000000, kSaResetHand = 0x80000000, kSaRestorer = 0x04000000;

struct SigInfo {
  int32_t signo = 0;
  int32_t error = 0;
  int32_t code = 0;
  int32_t pad = 0;
  union {
    struct {
      int32_t pid;
      uint32_t uid;
      uint64_t value;
    } rt;  // kill, sigqueue
    struct {
      int32_t pid;
      uint32_t uid;
      int32_t status;
      int32_t pad2;
      int64_t utime, stime;
    } child;  // SIGCHLD
    struct {
      uint64_t address;
      uint64_t more[2];
    } fault;  // SIGSEGV...
    struct {
      int32_t timer;
      int32_t overrun;
      uint64_t value;
    } timer;
    struct {
      int64_t band;
      int32_t fd;
    } poll;
    struct {
      uint64_t call_address;
      int32_t syscall;
      uint32_t arch;
    } sys;
    uint8_t bytes[112];
  };
  SigInfo() : bytes{} {}
};
static_assert(sizeof(SigInfo) == 128);

struct SigStack {
  uint64_t sp = 0;
  int32_t flags = 2;  // SS_DISABLE
  int32_t pad = 0;
  uint64_t size = 0;
};
static_assert(sizeof(SigStack) == 24);

// The order is the one of sigcontext.
struct Registers {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint16_t cs, gs, fs, ss;
  uint64_t err, trapno, oldmask, cr2;
};
static_assert(sizeof(Registers) == 184);

struct UContext {
  uint64_t flags;
  uint64_t link;
  SigStack stack;
  Registers regs;
  uint64_t fpstate;
  uint64_t reserved[8];
  SigSet mask;
};
static_assert(sizeof(UContext) == 304);

// What lies on a guest's stack when its handler starts (arch/x86/include/asm/sigframe.h); the FP state is above it.
struct RtSigFrame {
  uint64_t return_address;
  UContext uc;
  SigInfo info;
};
static_assert(sizeof(RtSigFrame) == 440);

}  // namespace caisson::kernel::abi
