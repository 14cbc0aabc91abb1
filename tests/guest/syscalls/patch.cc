// Calls made so often from one place that the application kernel puts a jump there: nothing about them may change.
#include <asm/prctl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "harness.h"

namespace {

constexpr int kOften = 400;

}  // namespace

// The places. Each is a function of its own, on a page of its own.
//   moved_*: mov $number, %eax; syscall. at_*: the number is the caller's, an instruction that can be moved is behind.
extern "C" {
long moved_getpgid(long);
long moved_getppid();
long at_any(long number, long first, long second, long third);
long at_store(long number, long first, long second, long* place);
long long_move(long);
extern const char moved_getpgid_call[], moved_getpgid_behind[], at_any_call[], at_any_behind[], at_store_behind[], moved_getppid_behind[];
// Fills every register, calls, and writes what it finds afterwards to rdi's 20 words. `place`: what to call, with rax = number.
void all_registers(uint64_t* found, long number, const void* place);
extern const char registers_moved_behind[], registers_any_behind[], registers_moved[], registers_any[];
extern const char text_begin[], text_end[];
extern const char __executable_start, etext;  // what the program's text is, the linker says
}

__asm__(R"(
  .text
  .balign 4096
  .globl text_begin
text_begin:
  .balign 64
  .globl moved_getpgid, moved_getpgid_call, moved_getpgid_behind
moved_getpgid:
  mov $121, %eax
moved_getpgid_call:
  syscall
moved_getpgid_behind:
  cmp $-4095, %rax
  ret
  .balign 64
  .globl moved_getppid, moved_getppid_behind
moved_getppid:
  mov $110, %eax
  syscall
moved_getppid_behind:
  ret
  .balign 64
  .globl long_move
long_move:
  nop
  mov $121, %rax
  syscall
  ret
  .balign 64
  .globl at_any, at_any_call, at_any_behind
at_any:
  mov %rdi, %rax
  mov %rsi, %rdi
  mov %rdx, %rsi
  mov %rcx, %rdx
at_any_call:
  syscall
at_any_behind:
  cmp $-4096, %rax
  ret
  .balign 64
  .globl at_store, at_store_behind
at_store:
  mov %rdi, %rax
  mov %rsi, %rdi
  mov %rdx, %rsi
  mov %rcx, %r9
  syscall
at_store_behind:
  mov %rax, (%r9)
  ret
  .balign 64
  .globl registers_moved, registers_moved_behind, registers_any, registers_any_behind
registers_moved:
  mov $121, %eax
  syscall
registers_moved_behind:
  jmp *-8(%rsp)
  .balign 64
registers_any:
  syscall
registers_any_behind:
  lea 0(%rax), %rax
  jmp *-8(%rsp)
  .balign 64
  .globl all_registers
all_registers:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  push %rdi
  mov %rsi, %rax
  mov %rdx, %r15
  lea 2f(%rip), %rcx
  mov %rcx, -8(%rsp)
  movq $0x7e57, -128(%rsp)
  movq $0x7e58, -16(%rsp)
  xor %edi, %edi
  mov $0x102, %esi
  mov $0x103, %edx
  mov $0x104, %ebx
  mov $0x105, %ebp
  mov $0x108, %r8d
  mov $0x109, %r9d
  mov $0x10a, %r10d
  mov $0x10c, %r12d
  mov $0x10d, %r13d
  mov $0x10e, %r14d
  movq %r13, %xmm0
  movq %r14, %xmm15
  std
  stc
  jmp *%r15
2:
  pushfq
  cld
  xchg %rdi, 8(%rsp)
  mov %rax, (%rdi)
  mov %rbx, 8(%rdi)
  mov %rcx, 16(%rdi)
  mov %rdx, 24(%rdi)
  mov %rsi, 32(%rdi)
  mov %rbp, 40(%rdi)
  mov %r8, 48(%rdi)
  mov %r9, 56(%rdi)
  mov %r10, 64(%rdi)
  mov %r11, 72(%rdi)
  mov %r12, 80(%rdi)
  mov %r13, 88(%rdi)
  mov %r14, 96(%rdi)
  mov %r15, 104(%rdi)
  movq %xmm0, 112(%rdi)
  movq %xmm15, 120(%rdi)
  pop %rax
  mov %rax, 128(%rdi)
  pop %rax
  mov %rax, 136(%rdi)
  mov -136(%rsp), %rax
  mov %rax, 144(%rdi)
  mov -24(%rsp), %rax
  mov %rax, 152(%rdi)
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
  .balign 4096
  .globl text_end
text_end:
)");

namespace {

uint64_t value(const char* symbol) { return reinterpret_cast<uint64_t>(symbol); }

void warm_up() {
  const pid_t group = getpgid(0), parent = getppid();
  for (int i = 0; i < kOften; ++i) {
    EQ(moved_getpgid(0), group);
    EQ(at_any(SYS_getpgid, 0, 0, 0), group);
    EQ(moved_getppid(), parent);
    EQ(long_move(0), group);
  }
}

void check_registers(const char* place, const char* behind) {
  for (int i = 0; i < kOften; ++i) {
    std::array<uint64_t, 20> found{};
    all_registers(found.data(), SYS_getpgid, place);
    EQ(found[0], getpgid(0));
    const uint64_t wanted[] = {0x104, value(behind), 0x103, 0x102, 0x105, 0x108, 0x109, 0x10a};
    for (size_t at = 0; at < std::size(wanted); ++at) EQ(found[1 + at], wanted[at]);
    EQ(found[9] & 0x401, 0x401);  // r11: the flags, DF and CF
    EQ(found[10], 0x10c);
    EQ(found[11], 0x10d);
    EQ(found[12], 0x10e);
    EQ(found[13], reinterpret_cast<uint64_t>(place));
    EQ(found[14], 0x10d);
    EQ(found[15], 0x10e);
    EQ(found[16] & 0x401, 0x401);
    EQ(found[17], 0);       // rdi
    EQ(found[19], 0x7e58);  // red zone; its far end is below the flags that were pushed
  }
}

std::atomic<long> g_signals{0}, g_outside{0};
void note_place(int, siginfo_t*, void* context) {
  const auto rip = static_cast<uint64_t>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
  ++g_signals;
  if (rip < reinterpret_cast<uint64_t>(&__executable_start) || rip >= reinterpret_cast<uint64_t>(&etext)) ++g_outside;
  const int error = errno;
  moved_getpgid(0);
  at_any(SYS_getppid, 0, 0, 0);
  errno = error;
}

void handle(int signal, void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  OK(sigaction(signal, &action, nullptr));
}

}  // namespace

TEST(patch, registers) {
  check_registers(registers_moved, registers_moved_behind);
  check_registers(registers_any, registers_any_behind);
}

TEST(patch, other_numbers_at_one_place) {
  int fds[2];
  OK(pipe(fds));
  for (int i = 0; i < kOften; ++i) {
    EQ(at_any(SYS_getpgid, 0, 0, 0), getpgid(0));
    EQ(at_any(SYS_getpid, 0, 0, 0), getpid());
    EQ(at_any(SYS_gettid, 0, 0, 0), gettid());
    EQ(at_any(SYS_sched_yield, 0, 0, 0), 0);
    EQ(at_any(SYS_write, fds[1], reinterpret_cast<long>("x"), 1), 1);
    char byte = 0;
    EQ(at_any(SYS_read, fds[0], reinterpret_cast<long>(&byte), 1), 1);
    EQ(byte, 'x');
    EQ(at_any(100'000, 0, 0, 0), -ENOSYS);
    uint32_t word = 1;
    EQ(at_any(SYS_futex, reinterpret_cast<long>(&word), 0 /* wait */, 0), -EAGAIN);
  }
}

TEST(patch, many_threads_at_one_place) {
  const pid_t group = getpgid(0), parent = getppid();
  std::atomic<long> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < 2000; ++n) {
        if (moved_getpgid(0) != group) ++wrong;
        if (at_any(SYS_getpgid, 0, 0, 0) != group) ++wrong;
        if (moved_getppid() != parent) ++wrong;
        if (at_any(SYS_gettid, 0, 0, 0) != gettid()) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EQ(wrong.load(), 0);
}

TEST(patch, signals_see_the_program_only) {
  handle(SIGUSR1, note_place, SA_RESTART);
  std::atomic<bool> done{false};
  const pid_t group = getpgid(0), parent = getppid();
  long wrong = 0;
  const pthread_t main = pthread_self();
  std::thread sender([&] {
    while (!done) {
      pthread_kill(main, SIGUSR1);
      sched_yield();
    }
  });
  for (int i = 0; i < 20'000; ++i) {
    if (moved_getppid() != parent) ++wrong;
    if (at_any(SYS_getppid, 0, 0, 0) != parent) ++wrong;
    if (at_any(SYS_sched_yield, 0, 0, 0) != 0) ++wrong;
    if (i % 8 == 0 && moved_getpgid(0) != group) ++wrong;
    if (i % 8 == 0 && at_any(SYS_getpgid, 0, 0, 0) != group) ++wrong;
  }
  done = true;
  sender.join();
  EQ(wrong, 0);
  CHECK(g_signals > 0);
  EQ(g_outside.load(), 0);
}

TEST(patch, restart_and_eintr) {
  warm_up();
  int fds[2];
  OK(pipe(fds));
  char byte = 0;
  for (int i = 0; i < kOften; ++i) {
    EQ(write(fds[1], "a", 1), 1);
    EQ(at_any(SYS_read, fds[0], reinterpret_cast<long>(&byte), 1), 1);
  }
  for (const int flags : {SA_RESTART, 0}) {
    g_signals = 0;
    handle(SIGUSR1, note_place, flags);
    const pthread_t main = pthread_self();
    // Signals come until the read has ended (one may hit before it began), or, where it is restarted, after a few of them.
    std::atomic<bool> ended{false};
    std::thread sender([&] {
      while (flags != 0 ? g_signals < 3 : !ended) {
        pthread_kill(main, SIGUSR1);
        sleep_ms(5);
      }
      if (flags != 0) (void)!write(fds[1], "b", 1);
    });
    const long got = at_any(SYS_read, fds[0], reinterpret_cast<long>(&byte), 1);
    ended = true;
    EQ(got, flags != 0 ? 1 : -EINTR);
    sender.join();
  }
}

TEST(patch, fork_vfork_and_threads_afterwards) {
  warm_up();
  EQ(in_child([] {
       warm_up();
       EQ(getppid(), moved_getppid());
       EQ(in_child(warm_up), 0);
     }),
     0);
  for (int i = 0; i < 20; ++i) {
    const pid_t child = vfork();
    if (child == 0) {
      for (int n = 0; n < 50; ++n) moved_getpgid(0), at_any(SYS_getpgid, 0, 0, 0);
      _exit(at_any(SYS_getpid, 0, 0, 0) == getpid() ? 7 : 8);
    }
    int status = 0;
    EQ(at_any(SYS_wait4, child, reinterpret_cast<long>(&status), 0), child);
    EQ(WEXITSTATUS(status), 7);
    EQ(at_any(SYS_getpid, 0, 0, 0), getpid());
  }
  // Made at the place itself: the child comes back there, too.
  for (int i = 0; i < 20; ++i) {
    const long child = at_any(SYS_fork, 0, 0, 0);
    if (child == 0) _exit(moved_getppid() == getppid() ? 3 : 4);
    int status = 0;
    EQ(waitpid(static_cast<pid_t>(child), &status, 0), child);
    EQ(WEXITSTATUS(status), 3);
  }
}

TEST(patch, jump_to_the_call_itself) {
  warm_up();
  long result = 0;
  for (int i = 0; i < kOften; ++i) {
    __asm__ volatile("call *%2" : "=a"(result) : "a"(SYS_getpgid), "r"(moved_getpgid_call), "D"(0) : "rcx", "r11", "rsi", "memory", "cc");
    EQ(result, getpgid(0));
    __asm__ volatile("call *%2" : "=a"(result) : "a"(SYS_getpgid), "r"(at_any_call), "D"(0) : "rcx", "r11", "rsi", "memory", "cc");
    EQ(result, getpgid(0));
    // And behind it: as if a call had returned.
    __asm__ volatile("call *%2" : "=a"(result) : "a"(1234 + i), "r"(at_any_behind) : "rcx", "r11", "memory", "cc");
    EQ(result, 1234 + i);
  }
}

TEST(patch, text_that_becomes_writable) {
  char* text = const_cast<char*>(text_begin);
  const size_t size = value(text_end) - value(text_begin);
  const std::vector<char> original(text_begin, text_end);
  warm_up();
  // Readable as it was, once it is writable.
  OK(mprotect(text, size, PROT_READ | PROT_WRITE | PROT_EXEC));
  CHECK(memcmp(text, original.data(), size) == 0);
  warm_up();
  // Another number, written over the move's alone.
  char* number = text + (value(moved_getpgid_call) - value(text_begin)) - 4;
  const int other = SYS_getsid, before = SYS_getpgid;
  memcpy(number, &other, sizeof other);
  OK(mprotect(text, size, PROT_READ | PROT_EXEC));
  for (int i = 0; i < kOften; ++i) EQ(moved_getpgid(0), getsid(0));
  OK(mprotect(text, size, PROT_READ | PROT_WRITE | PROT_EXEC));
  memcpy(number, &before, sizeof before);
  OK(mprotect(text, size, PROT_READ | PROT_EXEC));
  warm_up();
}

TEST(patch, text_written_while_not_executable) {
  char* text = const_cast<char*>(text_begin);
  const size_t size = value(text_end) - value(text_begin);
  warm_up();
  OK(mprotect(text, size, PROT_READ | PROT_WRITE));
  char* call = text + (value(at_any_call) - value(text_begin));
  const char nothing[] = {'\x66', '\x90'}, back[] = {'\x0f', '\x05'};
  memcpy(call, nothing, sizeof nothing);
  OK(mprotect(text, size, PROT_READ | PROT_EXEC));
  for (int i = 0; i < kOften; ++i) EQ(at_any(5000 + i, 0, 0, 0), 5000 + i);
  OK(mprotect(text, size, PROT_READ | PROT_WRITE));
  memcpy(call, back, sizeof back);
  OK(mprotect(text, size, PROT_READ | PROT_EXEC));
  warm_up();
}

TEST(patch, text_replaced) {
  const size_t size = value(text_end) - value(text_begin);
  const std::vector<char> original(text_begin, text_end);
  warm_up();
  char* text = const_cast<char*>(text_begin);
  EQ(reinterpret_cast<uint64_t>(mmap(text, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)),
     value(text_begin));
  memcpy(text, original.data(), size);
  OK(mprotect(text, size, PROT_READ | PROT_EXEC));
  CHECK(memcmp(text, original.data(), size) == 0);
  warm_up();
  CHECK(memcmp(text, original.data(), size) == 0);  // no file's text: nobody's to change
}

namespace {

// The functions of the text when it lies `distance` bytes further on.
void use_text(ptrdiff_t distance) {
  const auto getpgid_there = reinterpret_cast<long (*)(long)>(reinterpret_cast<uint64_t>(moved_getpgid) + static_cast<uint64_t>(distance));
  const auto any_there =
      reinterpret_cast<long (*)(long, long, long, long)>(reinterpret_cast<uint64_t>(at_any) + static_cast<uint64_t>(distance));
  for (int i = 0; i < kOften; ++i) {
    EQ(getpgid_there(0), getpgid(0));
    EQ(any_there(SYS_getpgid, 0, 0, 0), getpgid(0));
  }
}

// As if a call at at_any, moved, had returned 1234.
void return_behind_call(ptrdiff_t distance) {
  long result = 0;
  __asm__ volatile("call *%2" : "=a"(result) : "a"(1234), "r"(at_any_behind + distance) : "rcx", "r11", "memory", "cc");
  EQ(result, 1234);
}

}  // namespace

TEST(patch, text_that_is_moved) {
  char* text = const_cast<char*>(text_begin);
  const size_t size = value(text_end) - value(text_begin);
  const std::vector<char> original(text_begin, text_end);
  warm_up();
  char* place = static_cast<char*>(mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  CHECK(mremap(text, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
  CHECK(memcmp(place, original.data(), size) == 0);
  return_behind_call(place - text);
  use_text(place - text);
  CHECK(mremap(place, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, text) == text);
  use_text(0);
}

TEST(patch, text_that_moves_because_it_grows) {
  char* text = const_cast<char*>(text_begin);
  const size_t size = value(text_end) - value(text_begin), more = size + 64 * 4096;
  for (const bool behind_first : {false, true}) {
    EQ(in_child([&] {
         warm_up();
         char* place = static_cast<char*>(mremap(text, size, more, MREMAP_MAYMOVE));
         CHECK(place != MAP_FAILED && place != text);
         if (behind_first) return_behind_call(place - text);
         use_text(place - text);
         return_behind_call(place - text);
         CHECK(mremap(place, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, text) == text);
         use_text(0);
       }),
       0);
  }
}

TEST(patch, text_that_changes_while_it_runs) {
  char* text = const_cast<char*>(text_begin);
  const size_t size = value(text_end) - value(text_begin);
  for (int round = 0; round < 10; ++round)
    EQ(in_child([&] {
         std::atomic<long> wrong{0};
         const pid_t group = getpgid(0);
         std::vector<std::thread> threads;
         for (int i = 0; i < 3; ++i)
           threads.emplace_back([&] {
             for (int n = 0; n < kOften; ++n)
               if (moved_getpgid(0) != group || at_any(SYS_getpgid, 0, 0, 0) != group) ++wrong;
           });
         // What is written is what the program has there: a jump that came back late would be overwritten in part.
         char* number = text + (value(moved_getpgid_call) - value(text_begin)) - 4;
         const int same = SYS_getpgid;
         for (int n = 0; n < 20; ++n) {
           OK(mprotect(text, size, PROT_READ | PROT_WRITE | PROT_EXEC));
           for (int i = 0; i < 50; ++i) __atomic_store(reinterpret_cast<int*>(number), &same, __ATOMIC_SEQ_CST);
           OK(mprotect(text, size, PROT_READ | PROT_EXEC));
         }
         for (std::thread& thread : threads) thread.join();
         EQ(wrong.load(), 0);
         warm_up();
       }),
       0);
}

TEST(patch, filters_see_the_programs_place) {
  EQ(in_child([] {
       warm_up();
       const auto place = [](const char* symbol) { return static_cast<uint32_t>(value(symbol)); };
       sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                             BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 4),
                             BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, instruction_pointer)),
                             BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, place(moved_getpgid_behind), 2, 0),
                             BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, place(at_any_behind), 1, 0),
                             BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
                             BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
       const sock_fprog program{std::size(code), code};
       const pid_t group = getpgid(0);
       OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
       OK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
       for (int i = 0; i < kOften; ++i) {
         EQ(moved_getpgid(0), group);
         EQ(at_any(SYS_getpgid, 0, 0, 0), group);
         EQ(long_move(0), -77);
       }
       errno = 0;
       EQ(getpgid(0), -1);
       EQ(errno, 77);
     }),
     0);
}

namespace {
std::atomic<uint64_t> g_fault_at{0};
void skip_store(int, siginfo_t*, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  g_fault_at = static_cast<uint64_t>(registers[REG_RIP]);
  registers[REG_RIP] += 3;
}
}  // namespace

TEST(patch, fault_behind_the_call) {
  long place = 0;
  for (int i = 0; i < kOften; ++i) {
    place = 0;
    EQ(at_store(SYS_getpgid, 0, 0, &place), getpgid(0));
    EQ(place, getpgid(0));
  }
  handle(SIGSEGV, skip_store, 0);
  for (int i = 0; i < 3; ++i) {
    g_fault_at = 0;
    EQ(at_store(SYS_getpgid, 0, 0, reinterpret_cast<long*>(16)), getpgid(0));
    EQ(g_fault_at.load(), value(at_store_behind));
  }
}

namespace {
std::atomic<long> g_steps{0}, g_steps_outside{0};
void note_step(int, siginfo_t*, void* context) {
  const auto rip = static_cast<uint64_t>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
  ++g_steps;
  if (rip < reinterpret_cast<uint64_t>(&__executable_start) || rip >= reinterpret_cast<uint64_t>(&etext)) ++g_steps_outside;
}
}  // namespace

TEST(patch, trap_flag) {
  warm_up();
  handle(SIGTRAP, note_step, 0);
  for (int i = 0; i < 5; ++i) {
    long result = 0;
    __asm__ volatile(
        "sub $128, %%rsp; pushfq; orl $0x100, (%%rsp); popfq\n\t"
        "call moved_getpgid\n\t"
        "mov %%rax, %%rbx\n\t"
        "mov $110, %%edi; xor %%esi, %%esi; xor %%edx, %%edx; xor %%ecx, %%ecx; call at_any\n\t"
        "pushfq; andl $~0x100, (%%rsp); popfq; add $128, %%rsp"
        : "=a"(result)
        : "D"(0)
        : "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
    EQ(result, getppid());
  }
  CHECK(g_steps > 20);
  EQ(g_steps_outside.load(), 0);
}

TEST(patch, gs_is_the_programs) {
  warm_up();
  unsigned long base = 1;
  EQ(syscall(SYS_arch_prctl, ARCH_GET_GS, &base), 0);
  EQ(base, 0);
  static uint64_t words[4] = {0x1111, 0x2222, 0x3333, 0x4444};
  EQ(syscall(SYS_arch_prctl, ARCH_SET_GS, words), 0);
  uint64_t seen = 0;
  for (int i = 0; i < kOften; ++i) {
    EQ(moved_getpgid(0), getpgid(0));
    EQ(at_any(SYS_getppid, 0, 0, 0), getppid());
    __asm__ volatile("mov %%gs:8, %0" : "=r"(seen));
    EQ(seen, 0x2222);
  }
  EQ(syscall(SYS_arch_prctl, ARCH_GET_GS, &base), 0);
  EQ(base, reinterpret_cast<uint64_t>(words));
  EQ(in_child([&] {
       uint64_t there = 0;
       warm_up();
       __asm__ volatile("mov %%gs:16, %0" : "=r"(there));
       EQ(there, 0x3333);
     }),
     0);
  EQ(words[0], 0x1111);
  EQ(syscall(SYS_arch_prctl, ARCH_SET_GS, 0), 0);
  warm_up();
}

TEST(patch, others_see_the_programs_text) {
  int ready[2], end[2];
  OK(pipe(ready));
  OK(pipe(end));
  const pid_t child = start_child([&] {
    close(end[1]);
    warm_up();
    EQ(write(ready[1], "r", 1), 1);
    char byte;
    EQ(read(end[0], &byte, 1), 0);
  });
  close(end[0]);
  char byte;
  EQ(read(ready[0], &byte, 1), 1);
  // Our own text has not been run so often, so it is what the file has.
  std::vector<char> seen(value(text_end) - value(text_begin));
  for (const size_t piece : {seen.size(), size_t{7}}) {
    for (size_t at = 0; at < seen.size(); at += piece) {
      const iovec ours{seen.data() + at, std::min(piece, seen.size() - at)}, theirs{const_cast<char*>(text_begin) + at, ours.iov_len};
      EQ(process_vm_readv(child, &ours, 1, &theirs, 1, 0), static_cast<long>(ours.iov_len));
    }
    CHECK(memcmp(seen.data(), text_begin, seen.size()) == 0);
  }
  close(end[1]);
  EQ(wait_child(child), 0);
}

TEST(patch, tracers_see_the_programs_text) {
  int fds[2];
  OK(pipe(fds));
  const pid_t child = start_child([&] {
    warm_up();
    EQ(write(fds[1], "r", 1), 1);
    for (;;) {
      moved_getpgid(0);
      at_any(SYS_getpgid, 0, 0, 0);
    }
  });
  char byte;
  EQ(read(fds[0], &byte, 1), 1);
  OK(ptrace(PTRACE_ATTACH, child, 0, 0));
  int status = 0;
  EQ(waitpid(child, &status, 0), child);
  CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  for (const char* at = text_begin; at < text_end; at += 8) {
    errno = 0;
    const long word = ptrace(PTRACE_PEEKTEXT, child, at, 0);
    EQ(errno, 0);
    EQ(word, *reinterpret_cast<const long*>(at));
  }
  // Step by step, until both calls have been seen. (Our own text has not been run so often, so it is what the file has.)
  bool call = false, behind = false, other = false;
  for (int i = 0; i < 3000 && !(call && behind && other); ++i) {
    OK(ptrace(PTRACE_SINGLESTEP, child, 0, 0));
    EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
    user_regs_struct registers{};
    OK(ptrace(PTRACE_GETREGS, child, 0, &registers));
    EQ(registers.gs_base, 0);
    CHECK(registers.rip >= value(&__executable_start) && registers.rip < value(&etext));
    call |= registers.rip == value(moved_getpgid_call);
    behind |= registers.rip == value(moved_getpgid_behind);
    other |= registers.rip == value(at_any_behind);
  }
  CHECK(call && behind && other);
  // A breakpoint right at the place.
  const long word = ptrace(PTRACE_PEEKTEXT, child, moved_getpgid, 0);
  OK(ptrace(PTRACE_POKETEXT, child, moved_getpgid, (word & ~0xffL) | 0xcc));
  OK(ptrace(PTRACE_CONT, child, 0, 0));
  EQ(waitpid(child, &status, 0), child);
  CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
  user_regs_struct registers{};
  OK(ptrace(PTRACE_GETREGS, child, 0, &registers));
  EQ(registers.rip, reinterpret_cast<uint64_t>(moved_getpgid) + 1);
  OK(kill(child, SIGKILL));
  waitpid(child, &status, 0);
}
