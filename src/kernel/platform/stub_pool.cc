// StubPool: the zygote's birth, and fresh stubs.
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <functional>

#include "kernel/klog.h"
#include "kernel/patch/call_sites.h"
#include "kernel/platform/filter.h"
#include "kernel/platform/host_calls.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/stub_thread.h"

extern "C" const char caisson_stub_blob[], caisson_stub_blob_end[];

namespace caisson::kernel {
namespace {

// The vDSO and the pages that it reads: stubs keep them, so that guests read clocks without a call.
struct Range {
  uint64_t from = 0, to = 0;
};
Range find_vdso() {
  Range range;
  // Not by name: the kernel process's root is empty.
  const Result<std::string> maps = read_host_proc("self/maps");
  for (size_t at = 0; maps && at < maps->size();) {
    const size_t end = std::min(maps->find('\n', at), maps->size());
    const std::string line = maps->substr(at, end - at);
    at = end + 1;
    unsigned long from, to;
    if (sscanf(line.c_str(), "%lx-%lx", &from, &to) != 2) continue;
    if (line.find("[vvar") == line.npos && line.find("[vdso]") == line.npos) continue;
    if (range.from == 0) range.from = from;
    range.to = to;
  }
  return range;
}

// As the host's kernel wants it; the C library would put its own restorer in.
struct HostSigAction {
  uint64_t handler, flags, restorer, mask;
};

int set_handlers(const StubHeader& header) {
  for (int signal = 1; signal <= 64; ++signal) {
    HostSigAction action{0, 0, 0, 0};
    switch (signal) {
      case SIGKILL:
      case SIGSTOP:
        continue;
      case SIGSYS:
      case SIGSEGV:
      case SIGBUS:
      case SIGFPE:
      case SIGILL:
      case SIGTRAP:
      case STUB_INTERRUPT_SIGNAL:
        action = {header.signal_handler, SA_SIGINFO | SA_ONSTACK | 0x04000000 /* SA_RESTORER */, header.restorer, ~0ULL};
        if (signal == STUB_INTERRUPT_SIGNAL) action.flags |= SA_RESTART;
    }
    if (syscall(SYS_rt_sigaction, signal, &action, nullptr, 8) != 0) return errno;
  }
  const uint64_t none = 0;
  return syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, 8) == 0 ? 0 : errno;
}

void drop_capabilities() {
  struct {
    uint32_t version;
    int pid;
  } header{0x20080522, 0};
  uint32_t data[6] = {};
  syscall(SYS_capset, &header, data);
}

// The C library has registered an area of the thread's own memory, which is about to go (rseq(2)).
void unregister_rseq() {
  if (__rseq_size == 0) return;
  void* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
  if (syscall(SYS_rseq, area, 32, 1 /* RSEQ_FLAG_UNREGISTER */, RSEQ_SIG) != 0)
    klog(LogLevel::Error, "cannot unregister rseq: %s", strerrordesc_np(errno));
}

// A copy of this process. Not by fork(3) under the thread sanitizer, whose runtime begins a thread of its own in the child.
pid_t copy_process() {
#ifdef __SANITIZE_THREAD__
  return static_cast<pid_t>(syscall(SYS_fork));
#else
  return fork();
#endif
}

// Maps a part of the window. Not by mmap(3): the thread sanitizer refuses addresses that are none of its program's, and keeps programs from
// them with mappings that allow nothing.
bool map_window(uint64_t at, uint64_t size, int protection, int flags, int fd) {
#ifdef __SANITIZE_THREAD__
  syscall(SYS_munmap, at, size);
#endif
  return syscall(SYS_mmap, at, size, protection, flags | MAP_FIXED_NOREPLACE, fd, 0) == static_cast<long>(at);
}

// The zygote's body: from a copy of the kernel process to one with nothing but the blob.
[[noreturn]] void become_zygote(int socket, int blob, const std::vector<sock_filter>& filter, Range vdso) {
  const auto fail = [](const char* what) {
    klog(LogLevel::Error, "the zygote cannot start: %s: %s", what, strerrordesc_np(errno));
    _exit(1);
  };
  if (dup2(socket, 0) < 0 || dup2(blob, 1) < 0) fail("dup2");
  prctl(PR_SET_NAME, "caisson-guest");
  if (!map_window(STUB_BLOB, STUB_BLOB_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, 1)) fail("mapping the blob");
  if (!map_window(STUB_ZYGOTE, STUB_ZYGOTE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1)) fail("mapping the stack");
  StubHeader header;
  memcpy(&header, caisson_stub_blob, sizeof header);
  if (int error = set_handlers(header); error != 0) fail("rt_sigaction");
  unregister_rseq();
  drop_capabilities();
  prctl(PR_SET_DUMPABLE, 1);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("PR_SET_NO_NEW_PRIVS");
  sock_fprog program{static_cast<unsigned short>(filter.size()), const_cast<sock_filter*>(filter.data())};
  if (syscall(SYS_close_range, 1, ~0U, 0) != 0) fail("close_range");
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) _exit(1);
  asm volatile(
      "mov %0, %%rsp\n\t"
      "xor %%ebp, %%ebp\n\t"
      "call *%1\n\t"
      "hlt" ::"r"(STUB_ZYGOTE + STUB_ZYGOTE_SIZE),
      "r"(header.zygote_entry), "D"(0UL), "S"(vdso.from), "d"(vdso.to)
      : "memory");
  __builtin_unreachable();
}

Result<UniqueFd> blob_file() {
  UniqueFd file(memfd_create("stub-blob", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return host_errno();
  const size_t size = caisson_stub_blob_end - caisson_stub_blob;
  if (size > STUB_BLOB_SIZE) return Errno(E2BIG);
  if (ftruncate(file.get(), STUB_BLOB_SIZE) != 0) return host_errno();
  if (pwrite(file.get(), caisson_stub_blob, size, 0) != static_cast<ssize_t>(size)) return host_errno();
  // The filter that some guests get later, where none can change it.
  constexpr uint64_t kPlace = STUB_TRAP_FILTER - STUB_BLOB;
  if (size > kPlace) return Errno(E2BIG);
  const std::vector<sock_filter> trap = make_trap_filter();
  const sock_fprog program{static_cast<unsigned short>(trap.size()), reinterpret_cast<sock_filter*>(STUB_TRAP_FILTER + sizeof(sock_fprog))};
  const size_t bytes = trap.size() * sizeof(sock_filter);
  if (pwrite(file.get(), &program, sizeof program, kPlace) != sizeof program) return host_errno();
  if (pwrite(file.get(), trap.data(), bytes, kPlace + sizeof program) != static_cast<ssize_t>(bytes)) return host_errno();
  // What a thunk's call does not bring to the kernel.
  std::array<uint64_t, 8> native{};
  static_assert(STUB_TRAP_FILTER - STUB_NATIVE_MAP >= sizeof native);
  for (const NativeCall& call : native_calls()) native[static_cast<size_t>(call.number) / 64] |= 1ULL << (call.number % 64);
  if (size > STUB_NATIVE_MAP - STUB_BLOB) return Errno(E2BIG);
  if (pwrite(file.get(), native.data(), sizeof native, STUB_NATIVE_MAP - STUB_BLOB) != sizeof native) return host_errno();
  if (fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) return host_errno();
  return file;
}

// Forks the zygote out of a child that ends at once: the PID namespace's first process becomes its parent. Its pid.
Result<pid_t> fork_orphan(const std::function<void()>& body) {
  int ends[2];
  TRY(host_result(pipe2(ends, O_CLOEXEC)));
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const pid_t between = copy_process();
  if (between < 0) return host_errno();
  if (between == 0) {
    const pid_t self = getpid(), child = copy_process();
    if (child == 0) {
      // Its parent's end is what makes it ours: stubs must not be made before.
      while (getppid() == self) sched_yield();
      body();
    }
    _exit(child > 0 && write(to.get(), &child, sizeof child) == sizeof child ? 0 : 1);
  }
  to.reset();
  pid_t child = 0;
  const bool told = read(from.get(), &child, sizeof child) == sizeof child;
  while (waitpid(between, nullptr, 0) < 0 && errno == EINTR) continue;
  if (!told) return Errno(EAGAIN);
  return child;
}

}  // namespace

Result<Zygote> make_zygote(bool orphan) {
  Zygote zygote;
  UniqueFd blob = TRY(blob_file());
  const std::vector<sock_filter> filter = make_stub_filter();
  const Range vdso = find_vdso();
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return host_errno();
  zygote.socket.reset(pair[0]);
  UniqueFd theirs(pair[1]);
  pid_t pid;
  if (orphan) {
    pid = TRY(fork_orphan([&] { become_zygote(theirs.get(), blob.get(), filter, vdso); }));
  } else {
    pid = copy_process();
    if (pid < 0) return host_errno();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      become_zygote(theirs.get(), blob.get(), filter, vdso);
    }
  }
  zygote.process.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!zygote.process) return host_errno();
  if (vdso.from != 0) zygote.vdso = getauxval(AT_SYSINFO_EHDR);
  return zygote;
}

Result<std::unique_ptr<StubPool>> StubPool::adopt(Zygote zygote) {
  std::unique_ptr<StubPool> pool(new StubPool);
  pool->zygote_ = std::move(zygote);
  std::lock_guard guard(pool->lock_);
  TRY(pool->ask_locked());
  return pool;
}

Result<std::unique_ptr<StubPool>> StubPool::create() { return adopt(TRY(make_zygote(false))); }

StubPool::~StubPool() { end(); }

void StubPool::end() {
  std::lock_guard guard(lock_);
  if (std::exchange(ended_, true)) return;
  if (Result<std::shared_ptr<AddressSpace>> memory = asked_ ? asked_locked() : Errno(ESRCH))
    (void)StubThread::arrive(*std::move(memory), 0);
  syscall(SYS_pidfd_send_signal, zygote_.process.get(), SIGKILL, nullptr, 0);
  siginfo_t info{};
  while (syscall(SYS_waitid, P_PIDFD, zygote_.process.get(), &info, WEXITED | __WALL, nullptr) != 0 && errno == EINTR) continue;
  zygote_.socket.reset();
  zygote_.process.reset();
}

Result<void> StubPool::ask_locked() {
  std::shared_ptr<AddressSpace> memory = TRY(AddressSpace::create());
  TRY(memory->take_slot(0));
  static_cast<StubSlot*>(memory->slot(0))->thunks = CallSites::allowed() ? 1 : 0;
  const int fds[] = {memory->slots_fd(), memory->stub_socket_fd()};
  TRY(send_descriptors(zygote_.socket.get(), fds));
  asked_ = std::move(memory);
  return {};
}

// The memory of the stub that has been asked for, once that is there.
Result<std::shared_ptr<AddressSpace>> StubPool::asked_locked() {
  std::shared_ptr<AddressSpace> memory = std::move(asked_);
  uint8_t error = 0;
  ssize_t got;
  while ((got = recv(zygote_.socket.get(), &error, 1, 0)) < 0 && errno == EINTR) continue;
  if (got != 1) return got < 0 ? host_errno() : Errno(ESRCH);
  if (error != 0) return Errno(error);
  return memory;
}

Result<std::unique_ptr<StubThread>> StubPool::take() {
  std::shared_ptr<AddressSpace> memory;
  {
    std::lock_guard guard(lock_);
    if (ended_) return Errno(ESRCH);
    if (!asked_) TRY(ask_locked());
    memory = TRY(asked_locked());
    // The next one comes while this one's program is loaded. If it cannot be asked for now, it is when it is wanted.
    (void)ask_locked();
  }
  return StubThread::arrive(std::move(memory), 0);
}

}  // namespace caisson::kernel
