#include <elf.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "harness.h"

namespace {

// A child that is traced and has stopped itself.
template <typename Body>
pid_t traced_child(Body&& body) {
  const pid_t child = OK(fork());
  if (child == 0) {
    OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
    raise(SIGSTOP);
    body();
    _exit(0);
  }
  int status = 0;
  EQ(waitpid(child, &status, 0), child);
  CHECK(WIFSTOPPED(status));
  EQ(WSTOPSIG(status), SIGSTOP);
  return child;
}

// What wait tells of it next.
int next_status(pid_t child) {
  int status = 0;
  EQ(waitpid(child, &status, __WALL), child);
  return status;
}

void ends(pid_t child, int exit_status) {
  const int status = next_status(child);
  CHECK(WIFEXITED(status));
  EQ(WEXITSTATUS(status), exit_status);
}

volatile long g_number = 0;

}  // namespace

// A filter that hands getppid to the tracer: which looks, changes the call, or makes it none.
TEST(ptrace, seccomp_asks_the_tracer) {
  const pid_t child = traced_child([] {
    const sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 77),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{4, const_cast<sock_filter*>(code)};
    OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    OK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
    const long parent = syscall(SYS_getppid);
    EQ(syscall(SYS_getppid), 4711);
    EQ(syscall(SYS_getppid, 0), getpid());
    CHECK(parent > 0);
    // Nobody wants to know any more.
    FAILS(syscall(SYS_getppid), ENOSYS);
  });
  OK(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESECCOMP));
  for (int i = 0; i < 3; ++i) {
    OK(ptrace(PTRACE_CONT, child, 0, 0));
    const int status = next_status(child);
    EQ(status >> 8, SIGTRAP | PTRACE_EVENT_SECCOMP << 8);
    unsigned long message = 0;
    OK(ptrace(PTRACE_GETEVENTMSG, child, 0, &message));
    EQ(message, 77);
    user_regs_struct registers{};
    OK(ptrace(PTRACE_GETREGS, child, 0, &registers));
    EQ(registers.orig_rax, SYS_getppid);
    EQ(static_cast<long>(registers.rax), -ENOSYS);
    uint8_t info[88] = {};  // struct ptrace_syscall_info
    OK(ptrace(static_cast<decltype(PTRACE_CONT)>(0x420e), child, sizeof info, info));
    EQ(info[0], 3);  // PTRACE_SYSCALL_INFO_SECCOMP
    uint32_t data;
    memcpy(&data, info + 80, sizeof data);
    EQ(data, 77);
    if (i == 1) {
      registers.orig_rax = ~0ULL;
      registers.rax = 4711;
    }
    if (i == 2) registers.orig_rax = SYS_getpid;
    if (i > 0) OK(ptrace(PTRACE_SETREGS, child, 0, &registers));
  }
  OK(ptrace(PTRACE_SETOPTIONS, child, 0, 0));
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  ends(child, 0);
}

TEST(ptrace, memory_and_registers) {
  g_number = 1;
  const pid_t child = traced_child([] { _exit(static_cast<int>(g_number)); });
  long* const number = const_cast<long*>(&g_number);
  errno = 0;
  EQ(ptrace(PTRACE_PEEKDATA, child, number, 0), 1);
  EQ(errno, 0);
  OK(ptrace(PTRACE_POKEDATA, child, number, 42));
  FAILS(ptrace(PTRACE_PEEKDATA, child, 16, 0), EIO);
  user_regs_struct registers{};
  OK(ptrace(PTRACE_GETREGS, child, 0, &registers));
  errno = 0;
  EQ(static_cast<unsigned long>(ptrace(PTRACE_PEEKUSER, child, offsetof(user_regs_struct, rsp), 0)), registers.rsp);
  CHECK(registers.fs_base != 0);
  EQ(registers.cs, 0x33);
  user_regs_struct again{};
  iovec place{&again, sizeof again};
  OK(ptrace(PTRACE_GETREGSET, child, NT_PRSTATUS, &place));
  EQ(place.iov_len, sizeof again);
  EQ(again.rip, registers.rip);
  user_fpregs_struct floats{};
  OK(ptrace(PTRACE_GETFPREGS, child, 0, &floats));
  EQ(floats.cwd, 0x37f);
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  ends(child, 42);
  FAILS(ptrace(PTRACE_CONT, child, 0, 0), ESRCH);
}

TEST(ptrace, writes_to_code) {
  auto* const code = static_cast<unsigned char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  CHECK(code != MAP_FAILED);
  const unsigned char gives_five[] = {0xb8, 5, 0, 0, 0, 0xc3, 0x90, 0x90};  // mov $5, %eax; ret
  memcpy(code, gives_five, sizeof gives_five);
  OK(mprotect(code, 4096, PROT_READ | PROT_EXEC));
  const pid_t child = traced_child([code] { _exit(reinterpret_cast<int (*)()>(code)()); });
  errno = 0;
  const long word = ptrace(PTRACE_PEEKTEXT, child, code, 0);
  EQ(errno, 0);
  OK(ptrace(PTRACE_POKETEXT, child, code, (word & ~0xffL) | 0xcc));
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  EQ(next_status(child), SIGTRAP << 8 | 0x7f);
  user_regs_struct registers{};
  OK(ptrace(PTRACE_GETREGS, child, 0, &registers));
  EQ(registers.rip, reinterpret_cast<unsigned long>(code) + 1);
  OK(ptrace(PTRACE_POKETEXT, child, code, word));
  registers.rip -= 1;
  OK(ptrace(PTRACE_SETREGS, child, 0, &registers));
  // One instruction, then the rest.
  OK(ptrace(PTRACE_SINGLESTEP, child, 0, 0));
  EQ(next_status(child), SIGTRAP << 8 | 0x7f);
  siginfo_t info{};
  OK(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
  EQ(info.si_code, TRAP_TRACE);
  OK(ptrace(PTRACE_GETREGS, child, 0, &registers));
  EQ(registers.rip, reinterpret_cast<unsigned long>(code) + 5);
  EQ(registers.rax, 5);
  EQ(registers.eflags & 0x100, 0);
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  ends(child, 5);
  EQ(code[0], 0xb8);  // it was the child's copy
}

TEST(ptrace, system_calls) {
  const pid_t child = traced_child([] {
    syscall(SYS_getppid);
    syscall(SYS_mprotect, 0, 0, 0);
    int nobody = 0;
    syscall(SYS_futex, &nobody, 1 /* FUTEX_WAKE */, 1, nullptr, nullptr, 0);  // one that the host itself answers
    _exit(static_cast<int>(syscall(SYS_getuid)));
  });
  OK(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD));
  long numbers[3];
  for (int i = 0; i < 3;) {
    OK(ptrace(PTRACE_SYSCALL, child, 0, 0));
    EQ(next_status(child), (SIGTRAP | 0x80) << 8 | 0x7f);
    user_regs_struct registers{};
    OK(ptrace(PTRACE_GETREGS, child, 0, &registers));
    const long number = static_cast<long>(registers.orig_rax);
    // What the end of raise() does is the C library's business.
    const bool ours = number == SYS_getppid || number == SYS_mprotect || number == SYS_getuid;
    if (ours) EQ(registers.rax, static_cast<unsigned long>(-ENOSYS));
    OK(ptrace(PTRACE_SYSCALL, child, 0, 0));
    EQ(next_status(child), (SIGTRAP | 0x80) << 8 | 0x7f);
    OK(ptrace(PTRACE_GETREGS, child, 0, &registers));
    EQ(registers.orig_rax, number);
    if (!ours) continue;
    numbers[i++] = number;
    if (number == SYS_getppid) EQ(registers.rax, getpid());
    if (number == SYS_getuid) {
      registers.rax = 33;
      OK(ptrace(PTRACE_SETREGS, child, 0, &registers));
    }
  }
  EQ(numbers[0], SYS_getppid);
  EQ(numbers[1], SYS_mprotect);
  EQ(numbers[2], SYS_getuid);
  OK(ptrace(PTRACE_DETACH, child, 0, 0));
  ends(child, 33);
}

TEST(ptrace, signals) {
  signal(SIGUSR2, SIG_IGN);
  const pid_t child = traced_child([] {
    raise(SIGUSR1);  // is taken away
    raise(SIGUSR2);  // is told of though it is ignored
    raise(SIGTERM);
  });
  for (int wanted : {SIGUSR1, SIGUSR2}) {
    OK(ptrace(PTRACE_CONT, child, 0, 0));
    EQ(next_status(child), wanted << 8 | 0x7f);
    siginfo_t info{};
    OK(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
    EQ(info.si_signo, wanted);
    EQ(info.si_pid, child);
  }
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  EQ(next_status(child), SIGTERM << 8 | 0x7f);
  OK(ptrace(PTRACE_CONT, child, 0, SIGKILL));
  const int status = next_status(child);
  CHECK(WIFSIGNALED(status));
  EQ(WTERMSIG(status), SIGKILL);
}

TEST(ptrace, forks_are_followed) {
  const pid_t child = traced_child([] {
    const pid_t grandchild = fork();
    if (grandchild == 0) _exit(7);
    int status = 0;
    waitpid(grandchild, &status, 0);
    _exit(WEXITSTATUS(status) + 1);
  });
  OK(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL));
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  EQ(next_status(child), (SIGTRAP | PTRACE_EVENT_FORK << 8) << 8 | 0x7f);
  unsigned long grandchild = 0;
  OK(ptrace(PTRACE_GETEVENTMSG, child, 0, &grandchild));
  EQ(next_status(static_cast<pid_t>(grandchild)), SIGSTOP << 8 | 0x7f);
  OK(ptrace(PTRACE_CONT, grandchild, 0, 0));
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  ends(static_cast<pid_t>(grandchild), 7);
  EQ(next_status(child), SIGCHLD << 8 | 0x7f);
  OK(ptrace(PTRACE_CONT, child, 0, SIGCHLD));
  ends(child, 8);
}

// It stops once more before it ends, and is still there to be looked at.
TEST(ptrace, ends_are_told_before) {
  for (const bool by_signal : {false, true}) {
    const pid_t child = traced_child([&] {
      g_number = 33;
      if (by_signal) raise(SIGUSR1);
      _exit(9);
    });
    OK(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL));
    OK(ptrace(PTRACE_CONT, child, 0, 0));
    if (by_signal) {
      EQ(next_status(child), SIGUSR1 << 8 | 0x7f);
      OK(ptrace(PTRACE_CONT, child, 0, SIGUSR1));
    }
    EQ(next_status(child), (SIGTRAP | PTRACE_EVENT_EXIT << 8) << 8 | 0x7f);
    unsigned long status = 0;
    OK(ptrace(PTRACE_GETEVENTMSG, child, 0, &status));
    EQ(status & 0xff7f, by_signal ? SIGUSR1 : 9 << 8);
    errno = 0;
    EQ(ptrace(PTRACE_PEEKDATA, child, &g_number, 0), 33);
    OK(ptrace(PTRACE_CONT, child, 0, 0));
    const int ended = next_status(child);
    EQ(ended, by_signal ? SIGUSR1 : 9 << 8);
  }
}

TEST(ptrace, seize_and_interrupt) {
  const pid_t child = OK(fork());
  if (child == 0)
    for (;;) pause();
  FAILS(ptrace(PTRACE_CONT, child, 0, 0), ESRCH);
  OK(ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD));
  FAILS(ptrace(PTRACE_SEIZE, child, 0, 0), EPERM);
  EQ(waitpid(child, nullptr, WNOHANG | __WALL), 0);
  OK(ptrace(PTRACE_INTERRUPT, child, 0, 0));
  EQ(next_status(child), (SIGTRAP | PTRACE_EVENT_STOP << 8) << 8 | 0x7f);
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  // A stop of the whole process, which lasts while the tracer listens.
  OK(kill(child, SIGSTOP));
  EQ(next_status(child), SIGSTOP << 8 | 0x7f);
  OK(ptrace(PTRACE_CONT, child, 0, SIGSTOP));
  EQ(next_status(child), (SIGSTOP | PTRACE_EVENT_STOP << 8) << 8 | 0x7f);
  OK(ptrace(PTRACE_LISTEN, child, 0, 0));
  OK(kill(child, SIGCONT));
  EQ(next_status(child), (SIGTRAP | PTRACE_EVENT_STOP << 8) << 8 | 0x7f);
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  EQ(next_status(child), SIGCONT << 8 | 0x7f);
  OK(ptrace(PTRACE_DETACH, child, 0, 0));
  OK(kill(child, SIGKILL));
  CHECK(WIFSIGNALED(next_status(child)));
}

TEST(ptrace, attach_and_detach) {
  const pid_t child = OK(fork());
  if (child == 0)
    for (;;) pause();
  FAILS(ptrace(PTRACE_ATTACH, getpid(), 0, 0), EPERM);
  OK(ptrace(PTRACE_ATTACH, child, 0, 0));
  EQ(next_status(child), SIGSTOP << 8 | 0x7f);
  FAILS(ptrace(PTRACE_INTERRUPT, child, 0, 0), EIO);
  OK(ptrace(PTRACE_DETACH, child, 0, 0));
  OK(kill(child, SIGTERM));
  const int status = next_status(child);
  CHECK(WIFSIGNALED(status));
  EQ(WTERMSIG(status), SIGTERM);
}

namespace {

volatile long g_watched[2];

void set_debug_register(pid_t child, size_t number, uint64_t value) {
  OK(ptrace(PTRACE_POKEUSER, child, offsetof(user, u_debugreg) + 8 * number, value));
}
uint64_t debug_register(pid_t child, size_t number) {
  errno = 0;
  const long value = ptrace(PTRACE_PEEKUSER, child, offsetof(user, u_debugreg) + 8 * number, 0);
  EQ(errno, 0);
  return static_cast<uint64_t>(value);
}
constexpr uint64_t kEightBytesWritten = 1 | 9ULL << 16;  // of the first register

[[gnu::noinline]] void marked_function() { asm volatile("" ::: "memory"); }

}  // namespace

TEST(ptrace, watchpoints) {
  const pid_t child = traced_child([] {
    g_watched[1] = 5;  // beside it
    getppid();
    g_watched[0] = 77;
    g_watched[1] = 6;
    g_watched[0] = 78;
    _exit(static_cast<int>(g_watched[0]));
  });
  set_debug_register(child, 0, reinterpret_cast<uint64_t>(&g_watched[0]));
  set_debug_register(child, 7, kEightBytesWritten);
  EQ(debug_register(child, 0), reinterpret_cast<uint64_t>(&g_watched[0]));
  EQ(debug_register(child, 7), kEightBytesWritten);
  for (const long value : {77L, 78L}) {
    OK(ptrace(PTRACE_CONT, child, 0, 0));
    const int status = next_status(child);
    CHECK(WIFSTOPPED(status));
    EQ(WSTOPSIG(status), SIGTRAP);
    siginfo_t info{};
    OK(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
    EQ(info.si_code, 4);  // TRAP_HWBKPT
    EQ(debug_register(child, 6) & 0xf, 1);
    EQ(ptrace(PTRACE_PEEKDATA, child, &g_watched[0], 0), value);
    set_debug_register(child, 6, 0);
  }
  set_debug_register(child, 7, 0);
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  ends(child, 78);
}

TEST(ptrace, breakpoints_of_the_processor) {
  const pid_t child = traced_child([] {
    marked_function();
    _exit(9);
  });
  set_debug_register(child, 2, reinterpret_cast<uint64_t>(&marked_function));
  set_debug_register(child, 7, 1 << 4);
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  const int status = next_status(child);
  CHECK(WIFSTOPPED(status));
  user_regs_struct registers{};
  OK(ptrace(PTRACE_GETREGS, child, 0, &registers));
  EQ(registers.rip, reinterpret_cast<uint64_t>(&marked_function));
  EQ(debug_register(child, 6) & 0xf, 4);
  set_debug_register(child, 7, 0);
  OK(ptrace(PTRACE_DETACH, child, 0, 0));
  ends(child, 9);
}

TEST(ptrace, debug_registers_refuse) {
  const pid_t child = traced_child([] {});
  set_debug_register(child, 0, reinterpret_cast<uint64_t>(&g_watched[0]) + 1);
  FAILS(ptrace(PTRACE_POKEUSER, child, offsetof(user, u_debugreg) + 8 * 7, kEightBytesWritten), EINVAL);
  FAILS(ptrace(PTRACE_POKEUSER, child, offsetof(user, u_debugreg) + 8 * 1, 1ULL << 63), EINVAL);
  FAILS(ptrace(PTRACE_POKEUSER, child, offsetof(user, u_debugreg) + 8 * 4, 1), EIO);
  EQ(debug_register(child, 7), 0);
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  ends(child, 0);
}
