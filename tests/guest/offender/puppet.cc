#include "puppet.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <memory>

namespace {

constexpr size_t kPages = 16, kPage = 4096;
// syscall, int3; int $0x80, int3. What comes back from a fork there ends at once.
constexpr long kGates = 0xcc'80cd'cc'050fL;
constexpr uint64_t kGate32 = 3;

// The beginning of its program's code: what runs once, when it starts.
uint64_t first_code(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  const std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(path, "re"), &fclose);
  char line[512];
  while (file && fgets(line, sizeof line, file.get()) != nullptr) {
    unsigned long from, to, offset, inode;
    char modes[8], device[16];
    if (sscanf(line, "%lx-%lx %7s %lx %15s %lu", &from, &to, modes, &offset, device, &inode) == 6 && modes[2] == 'x' && inode != 0)
      return from;
  }
  return 0;
}

}  // namespace

std::optional<Puppet> Puppet::possess(pid_t pid) {
  Puppet puppet(pid);
  int status = 0;
  if (ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0 || ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0) return std::nullopt;
  if (!puppet.wait(status) || ptrace(PTRACE_GETREGS, pid, nullptr, &puppet.saved_) != 0) return std::nullopt;
  puppet.gate_ = first_code(pid);
  errno = 0;
  puppet.text_ = ptrace(PTRACE_PEEKTEXT, pid, puppet.gate_, nullptr);
  if (errno != 0 || ptrace(PTRACE_POKETEXT, pid, puppet.gate_, kGates) != 0) return std::nullopt;
  const long memory =
      puppet.call(SYS_mmap, 0, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, static_cast<uint64_t>(-1), 0);
  if (memory < 0) return std::nullopt;
  puppet.memory_ = static_cast<uint64_t>(memory);
  return puppet;
}

// Until it stops; false: it has ended.
bool Puppet::wait(int& status) {
  while (waitpid(pid_, &status, __WALL) < 0)
    if (errno != EINTR) return alive_ = false;
  if (WIFSTOPPED(status)) return true;
  signal_ = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return alive_ = false;
}

long Puppet::step(user_regs_struct registers) {
  registers.orig_rax = static_cast<unsigned long long>(-1);  // nothing is restarted
  if (!alive_ || ptrace(PTRACE_SETREGS, pid_, nullptr, &registers) != 0) return kKilled;
  for (;;) {
    int status = 0;
    if (ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) != 0 || !wait(status)) {
      alive_ = false;
      return kKilled;
    }
    user_regs_struct after{};
    if (ptrace(PTRACE_GETREGS, pid_, nullptr, &after) != 0) return kKilled;
    if (WSTOPSIG(status) == SIGSYS) return kTrapped;
    // The stop of a step that a trap has overtaken comes late; other signals are its own, and not for now.
    if (WSTOPSIG(status) == SIGTRAP && after.rip != registers.rip) return static_cast<long>(after.rax);
  }
}

long Puppet::call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  user_regs_struct registers = saved_;
  registers.rip = gate_;
  registers.rax = static_cast<unsigned long long>(number);
  registers.rdi = a;
  registers.rsi = b;
  registers.rdx = c;
  registers.r10 = d;
  registers.r8 = e;
  registers.r9 = f;
  return step(registers);
}

long Puppet::call32(long number, uint32_t a, uint32_t b) {
  user_regs_struct registers = saved_;
  registers.rip = gate_ + kGate32;
  registers.rax = static_cast<unsigned long long>(number);
  registers.rbx = a;
  registers.rcx = b;
  return static_cast<int>(step(registers));
}

uint64_t Puppet::put(std::string_view bytes) {
  const uint64_t at = memory_ + (next_++ % kPages) * kPage;
  std::string copy(bytes.substr(0, kPage - 1));
  copy.push_back('\0');
  const iovec ours{copy.data(), copy.size()}, theirs{reinterpret_cast<void*>(at), copy.size()};
  return process_vm_writev(pid_, &ours, 1, &theirs, 1, 0) == static_cast<ssize_t>(copy.size()) ? at : 0;
}

std::string Puppet::get(uint64_t address, size_t size) const {
  std::string bytes(size, '\0');
  const iovec ours{bytes.data(), size}, theirs{reinterpret_cast<void*>(address), size};
  return process_vm_readv(pid_, &ours, 1, &theirs, 1, 0) == static_cast<ssize_t>(size) ? bytes : std::string();
}

void Puppet::release() {
  if (!alive_) return;
  ptrace(PTRACE_POKETEXT, pid_, gate_, text_);
  ptrace(PTRACE_SETREGS, pid_, nullptr, &saved_);
  ptrace(PTRACE_DETACH, pid_, nullptr, nullptr);
}
