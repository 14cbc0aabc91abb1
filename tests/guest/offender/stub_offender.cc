// A guest of the application kernel that attacks the wall from inside a stub process: jumps into the blob's code to make host calls, spoils
// the pages that it shares with the kernel, ends its own stub, races path walks. `stub_offender CANARY NODE`: CANARY is a path of the host
// that must not be seen, NODE a device node of the image that must not open. One line for each attack: "ok NAME" or "FAILED NAME why".
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

// As src/kernel/stub/layout.h has them; an attacker knows them too.
constexpr uint64_t kBlob = 0x7e0000000000, kBlobSize = 0x10000, kSlots = kBlob + 0x10000000, kSlotSize = 0x8000;

std::string g_canary, g_node;
int g_failures = 0;

void report(const char* name, const std::string& why) {
  printf("%s %s %s\n", why.empty() ? "ok" : "FAILED", name, why.c_str());
  fflush(stdout);
  if (!why.empty()) ++g_failures;
}

// Runs an attack in a process of its own, which may die of it: 0 and any signal are fine, another status is the attack's success, and so is
// a process that cannot even be killed.
void attack(const char* name, const std::function<int()>& body) {
  const pid_t child = fork();
  if (child < 0) return report(name, std::string("fork: ") + strerror(errno));
  if (child == 0) _exit(body());
  int status = 0;
  for (int i = 0; i < 2000; ++i) {
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child)
      return report(name, WIFEXITED(status) && WEXITSTATUS(status) != 0 ? "status " + std::to_string(WEXITSTATUS(status)) : "");
    if (i == 300) kill(child, SIGKILL);
    usleep(5000);
  }
  report(name, "its process does not end");
}

sigjmp_buf g_back;
volatile long g_result;
void fell_out(int, siginfo_t*, void* context) {
  g_result = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX];
  siglongjmp(g_back, 1);
}

// A syscall instruction of the blob's that a hlt follows, which brings us back by a fault.
const void* gate() {
  const auto* code = reinterpret_cast<const uint8_t*>(kBlob);
  for (size_t i = 0; i + 2 < kBlobSize; ++i)
    if (code[i] == 0x0f && code[i + 1] == 0x05 && code[i + 2] == 0xf4) return code + i;
  return nullptr;
}

long from_blob(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  static const void* const entry = gate();
  if (entry == nullptr) return LONG_MIN;
  struct sigaction action {};
  action.sa_sigaction = fell_out;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  for (int signal : {SIGSEGV, SIGILL, SIGBUS, SIGTRAP}) sigaction(signal, &action, nullptr);
  if (sigsetjmp(g_back, 1) != 0) return g_result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("jmp *%[gate]" ::"a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9), [gate] "b"(entry)
               : "rcx", "r11", "memory");
  __builtin_unreachable();
}

struct Call {
  const char* name;
  long number, a, b, c, d;
};

// None of these may succeed, by whomever it is served.
int forbidden_calls() {
  const char* canary = g_canary.c_str();
  char memory[64];
  const Call calls[] = {
      {"openat", SYS_openat, AT_FDCWD, reinterpret_cast<long>(canary), O_RDONLY, 0},
      {"open", SYS_open, reinterpret_cast<long>(canary), O_RDONLY, 0, 0},
      {"clone into a user namespace", SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0},
      {"clone into a network namespace", SYS_clone, CLONE_NEWNET | CLONE_PARENT | SIGCHLD, 0, 0, 0},
      {"clone of another kind", SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0},
      {"mount", SYS_mount, reinterpret_cast<long>("none"), reinterpret_cast<long>("/nowhere"), reinterpret_cast<long>("proc"), 0},
      {"bpf", SYS_bpf, 0, 0, 0, 0},
      {"perf_event_open", SYS_perf_event_open, 0, 0, -1, -1},
      {"io_uring_setup", SYS_io_uring_setup, 8, reinterpret_cast<long>(memory), 0, 0},
      {"userfaultfd", SYS_userfaultfd, 1, 0, 0, 0},
      {"netfilter socket", SYS_socket, AF_NETLINK, SOCK_RAW, 12, 0},
      {"vsock", SYS_socket, 40, SOCK_STREAM, 0, 0},
      {"init_module", SYS_init_module, 0, 0, 0, 0},
      {"kexec_load", SYS_kexec_load, 0, 0, 0, 0},
      {"open_by_handle_at", SYS_open_by_handle_at, AT_FDCWD, reinterpret_cast<long>(memory), 0, 0},
      {"a filter of its own", SYS_seccomp, 1, 1, reinterpret_cast<long>(memory), 0},
      {"a filter with a listener", SYS_seccomp, 1, 8, static_cast<long>(kBlob + kBlobSize - 0x1000), 0}};
  for (const Call& call : calls)
    if (const long result = from_blob(call.number, call.a, call.b, call.c, call.d); result >= 0) {
      printf("%s gave %ld\n", call.name, result);
      fflush(stdout);
      return 2;
    }
  return 0;
}

int close_everything() {
  for (int fd = 0; fd < 256; ++fd) from_blob(SYS_close, fd);
  // The kernel's way to pass descriptors has gone: what needs one fails, or this process ends.
  const int file = open("/stub_offender", O_RDONLY);
  (void)!mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, file, 0);
  if (const pid_t child = fork(); child == 0) _exit(0);
  return 0;
}

int unmap_slots() {
  from_blob(SYS_munmap, kSlots, 64 * kSlotSize);
  return 0;
}

int flood_channel() {
  char byte = 0;
  // Blocks when the kernel does not read: it ends when it is killed.
  for (int fd = 0; fd < 16; ++fd)
    for (int i = 0; i < 5000; ++i)
      if (from_blob(SYS_write, fd, reinterpret_cast<long>(&byte), 1) < 0) break;
  return 0;
}

// Every word of the shared pages, while other threads use them.
int scribble(uint64_t seed) {
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      while (!over) {
        syscall(SYS_getppid);
        const int fd = open("/", O_RDONLY | O_DIRECTORY);
        char room[512];
        (void)syscall(SYS_getdents64, fd, room, sizeof room);
        close(fd);
      }
    });
  std::mt19937_64 random(seed);
  for (int i = 0; i < 200'000; ++i) {
    const uint64_t slot = random() % 4, offset = random() % 2 == 0 ? random() % 64 * 4 : random() % (kSlotSize / 4) * 4;
    const uint32_t values[] = {
        0, 1, 2, 3, 0xffffffff, 0x7fffffff, static_cast<uint32_t>(random()), static_cast<uint32_t>(random() % kSlotSize)};
    *reinterpret_cast<volatile uint32_t*>(kSlots + slot * kSlotSize + offset) = values[random() % 8];
  }
  over = true;
  _exit(0);
}

// "place" is a folder now and a symbolic link out of the root then.
int race_walks() {
  mkdir("/race", 0755);
  mkdir("/race/a", 0755);
  mkdir("/race/a/b", 0755);
  (void)!symlink("../../../../../../../../..", "/race/link");
  std::atomic<bool> over{false};
  std::thread swapper([&] {
    while (!over) {
      syscall(SYS_renameat2, AT_FDCWD, "/race/a", AT_FDCWD, "/race/link", RENAME_EXCHANGE);
      rename("/race/a/b", "/race/b");
      rename("/race/b", "/race/a/b");
    }
  });
  bool seen = false;
  for (int i = 0; i < 3000 && !seen; ++i)
    for (const std::string& path :
         {"/race/a" + g_canary, "/race/a/../../../../.." + g_canary, "/race/a/b/../../../../.." + g_canary, "/race/link/b/.." + g_canary})
      if (const int fd = open(path.c_str(), O_RDONLY); fd >= 0) seen = true;
  over = true;
  swapper.join();
  return seen ? 2 : 0;
}

int magic_links() {
  const std::string starts[] = {"/proc/1/root",
                                "/proc/self/root",
                                "/proc/self/root/../..",
                                "/proc/self/cwd/../../..",
                                "/proc/1/cwd",
                                "/proc/self/task/1/root",
                                "/proc/self/fd/0/..",
                                "/proc/self/exe/..",
                                "/..",
                                ""};
  for (const std::string& start : starts)
    if (open((start + g_canary).c_str(), O_RDONLY) >= 0) return 2;
  for (int pid = 1; pid < 64; ++pid)
    if (open(("/proc/" + std::to_string(pid) + "/root" + g_canary).c_str(), O_RDONLY) >= 0) return 3;
  return 0;
}

int device_nodes() {
  if (access(g_node.c_str(), F_OK) != 0) return 2;  // the test has put it there
  if (open(g_node.c_str(), O_RDONLY) >= 0 || open(g_node.c_str(), O_RDONLY | O_NONBLOCK) >= 0) return 3;
  if (mknod("/made-device", S_IFCHR | 0666, makedev(1, 11)) == 0 && open("/made-device", O_RDONLY) >= 0) return 4;
  return 0;
}

int many_threads() {
  std::vector<pthread_t> threads;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 32768);
  for (int i = 0; i < 600; ++i) {
    pthread_t thread;
    if (pthread_create(
            &thread, &attributes, [](void*) -> void* { return pause(), nullptr; }, nullptr) != 0)
      break;
    threads.push_back(thread);
  }
  _exit(0);
}

int many_descriptors() {
  while (memfd_create("many", 0) >= 0) continue;
  while (socket(AF_UNIX, SOCK_STREAM, 0) >= 0) continue;
  return 0;
}

}  // namespace

// A place that calls so often that the kernel puts a jump to a thunk there, and one that jumps to the stub's code as a thunk does.
extern "C" long hot_call(long number, const void* a, long b);
extern "C" long as_thunk(long number, const void* a, long b, const void* entry, const void* r11);
extern "C" const char hot_place[], fake_thunk[];
__asm__(R"(
  .text
hot_call:
  mov %rdi, %rax
  mov %rsi, %rdi
  mov %rdx, %rsi
hot_place:
  syscall
  cmp $-4096, %rax
  ret
as_thunk:
  mov %rdi, %rax
  mov %rsi, %rdi
  mov %rdx, %rsi
  mov %r8, %r11
  jmp *%rcx
  .quad 0x1234567
fake_thunk:
  ud2
  ret
)");

constexpr uint64_t kRegion = 0x10000;

// The thunk of hot_call; null: there is none.
const uint8_t* thunk() {
  for (int i = 0; i < 200; ++i) hot_call(SYS_getpgid, nullptr, 0);
  if (static_cast<uint8_t>(hot_place[0]) != 0xe9) return nullptr;
  int32_t distance;
  memcpy(&distance, hot_place + 1, sizeof distance);
  return reinterpret_cast<const uint8_t*>(hot_place) + 5 + distance;
}

bool may_patch() { return (getauxval(AT_HWCAP2) & 2) != 0; }

int change_thunks() {
  if (!may_patch()) return 0;
  const uint8_t* place = thunk();
  if (place == nullptr) return 3;
  void* region = reinterpret_cast<void*>(reinterpret_cast<uint64_t>(place) & ~(kRegion - 1));
  if (mprotect(region, kRegion, PROT_READ | PROT_WRITE) == 0 || mprotect(region, kRegion, PROT_READ | PROT_WRITE | PROT_EXEC) == 0)
    return 2;
  if (from_blob(SYS_mprotect, reinterpret_cast<long>(region), kRegion, PROT_READ | PROT_WRITE) == 0) return 2;
  // What a process does to its own view of them its parent does not feel.
  const pid_t child = fork();
  if (child == 0) {
    mmap(region, kRegion, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    _exit(hot_call(SYS_getpgid, nullptr, 0) == getpgid(0) ? 0 : 1);  // it has its own call back
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0) return 4;
  for (int i = 0; i < 200; ++i)
    if (hot_call(SYS_getpgid, nullptr, 0) != getpgid(0)) return 5;
  munmap(region, kRegion);
  return hot_call(SYS_getpgid, nullptr, 0) == getpgid(0) ? 0 : 6;
}

// The stub's code entered as by a thunk, with what no thunk brings.
int false_thunks() {
  if (!may_patch()) return 0;
  const uint8_t* place = thunk();
  if (place == nullptr) return 3;
  const void* entry;
  memcpy(&entry, reinterpret_cast<const void*>(reinterpret_cast<uint64_t>(place) & ~(kRegion - 1)), sizeof entry);
  // A thunk of one's own gets what a call gets.
  if (as_thunk(SYS_open, g_canary.c_str(), O_RDONLY, entry, fake_thunk) >= 0) return 2;
  if (as_thunk(SYS_getpgid, nullptr, 0, entry, fake_thunk) != getpgid(0)) return 4;
  for (const uint64_t wrong : {0UL, 8UL, 0xfffffffffffffff0UL, 0x800000000000UL, kBlob + 64, kSlots + 0x1008}) {
    const pid_t child = fork();
    if (child == 0) {
      as_thunk(SYS_getpgid, nullptr, 0, entry, reinterpret_cast<const void*>(wrong));
      _exit(0);
    }
    if (child > 0) waitpid(child, nullptr, 0);
  }
  return 0;
}

// The guest has a filter that lets getpgid pass from one place only, at which there is no call. Another thread writes that place into the
// registers of the caller, where the kernel is about to read them.
int forge_place() {
  constexpr int kRefused = 77;
  constexpr uint64_t kFrameOffset = 16, kRipOfFrame = 168, kRipOfFast = 0x1080;
  const auto place = reinterpret_cast<uint64_t>(fake_thunk);
  for (int i = 0; i < 200; ++i) hot_call(SYS_getpgid, nullptr, 0);
  sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 3),
                        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, instruction_pointer)),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(place), 1, 0),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | kRefused),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program{sizeof code / sizeof code[0], code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) return 3;
  if (hot_call(SYS_getpgid, nullptr, 0) != -kRefused) return 4;
  std::thread([place] {
    for (;;) {
      *reinterpret_cast<volatile uint64_t*>(kSlots + kRipOfFast) = place;
      const uint64_t frame = *reinterpret_cast<volatile uint64_t*>(kSlots + kFrameOffset) % kSlotSize;
      *reinterpret_cast<volatile uint64_t*>(kSlots + frame + kRipOfFrame) = place;
    }
  }).detach();
  timespec begin, now;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  do {
    for (int i = 0; i < 100; ++i)
      if (hot_call(SYS_getpgid, nullptr, 0) >= 0) return 2;
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (now.tv_sec - begin.tv_sec < 2);
  return 0;
}

// Threads that take each other's slots and write over the registers in them, at places that are just being patched.
int share_slots() {
  std::vector<std::thread> threads;
  std::atomic<bool> done{false};
  for (unsigned i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      std::mt19937_64 random(i);
      while (!done) {
        for (int n = 0; n < 50; ++n) hot_call(n % 2 != 0 ? SYS_getpgid : SYS_getppid, nullptr, 0);
        if (may_patch() && i > 1) __asm__ volatile("wrgsbase %0" ::"r"(kSlots + random() % 5 * kSlotSize));
        if (i == 0) *reinterpret_cast<volatile uint64_t*>(kSlots + random() % 5 * kSlotSize + 0x1000 + random() % 0xa0 / 8 * 8) = random();
      }
    });
  usleep(300'000);
  done = true;
  _exit(0);
}

// A thread that stays in the stub's code, where an interrupt is only noted, since another keeps the turn from it: it can still be killed.
int never_returns() {
  std::thread([] {
    for (;;) *reinterpret_cast<volatile uint32_t*>(kSlots) = 1;
  }).detach();
  for (;;) hot_call(SYS_getpgid, nullptr, 0);
}

int main(int argc, char** argv) {
  if (argc != 3) return 125;
  g_canary = argv[1];
  g_node = argv[2];
  if (gate() == nullptr) {
    report("gate", "no syscall instruction was found in the stub's code");
    return 1;
  }
  attack("forbidden calls from the stub's code", forbidden_calls);
  attack("closes all of its stub's descriptors", close_everything);
  attack("unmaps the shared pages", unmap_slots);
  attack("ends its stub", [] { return static_cast<int>(from_blob(SYS_exit_group, 0)); });
  attack("ends its stub's thread", [] { return static_cast<int>(from_blob(SYS_exit, 0)); });
  attack("floods the kernel's channel", flood_channel);
  for (uint64_t seed = 1; seed <= 3; ++seed) attack("scribbles over the shared pages", [seed] { return scribble(seed); });
  attack("races path walks", race_walks);
  attack("magic links", magic_links);
  attack("device nodes of the image", device_nodes);
  attack("writes over thunks and unmaps them", change_thunks);
  attack("pretends to be a thunk", false_thunks);
  attack("takes other threads' slots", share_slots);
  attack("forges the place of a call", forge_place);
  attack("stays in the stub's code", never_returns);
  attack("many threads", many_threads);
  attack("many descriptors", many_descriptors);
  return g_failures == 0 ? 0 : 1;
}
