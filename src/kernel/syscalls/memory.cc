// Memory calls that are not native: file mappings, brk, and what touches the window.
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>

#include "kernel/fs/proc/facts.h"
#include "kernel/patch/call_sites.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/stub/layout.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kPage = 4096;

bool touches_window(uint64_t address, uint64_t length) {
  const uint64_t end = address + length;
  return end < address || (address < STUB_WINDOW_END && end > STUB_WINDOW);
}

uint64_t pages(uint64_t value) { return (value + kPage - 1) & ~(kPage - 1); }

Result<long> native(Task& task, const StubCall& call) { return static_cast<long>(TRY(task.stub->run_one(call))); }

Result<long> sys_mmap(Task& task, unsigned long address, unsigned long length, unsigned prot, unsigned flags, Fd fd, unsigned long offset) {
  if (length == 0) return Errno(EINVAL);
  if (offset % kPage != 0) return Errno(EINVAL);
  const bool fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;
  if (touches_window(address, length)) {
    if (fixed) return Errno(ENOMEM);
    address = 0;  // a hint only
  }
  if ((flags & MAP_HUGETLB) != 0) return Errno(ENOMEM);
  StubCall call{SYS_mmap, {address, length, prot, flags, ~0ULL, 0}};
  if ((flags & MAP_ANONYMOUS) != 0) return native(task, call);
  const FileRef file = TRY(task.fds->get_usable(number(fd)));
  if (length > (1ULL << 47) || offset > (1ULL << 62)) return Errno(ENOMEM);
  if ((prot & PROT_EXEC) != 0 && file->path() && (file->path().mount->flags & 8 /* MS_NOEXEC */) != 0) return Errno(EPERM);
  const MapSource source = TRY(file->map(offset, length, static_cast<int>(prot), static_cast<int>(flags)));
  if (source.anonymous) {
    call.args[3] |= MAP_ANONYMOUS;
    return native(task, call);
  }
  call.args[5] = source.offset;
  call.fd_argument = 4;
  call.fd = source.host_fd;
  CallSites& sites = task.memory->call_sites();
  const CallSites::Held held = sites.hold();
  const long at = TRY(native(task, call));
  sites.forget_held(static_cast<uint64_t>(at), static_cast<uint64_t>(at) + length);
  return at;
}

Result<long> sys_munmap(Task& task, unsigned long address, unsigned long length) {
  if (touches_window(address, length)) return Errno(EINVAL);
  return native(task, {SYS_munmap, {address, length}});
}

Result<long> sys_mprotect(Task& task, unsigned long address, unsigned long length, unsigned prot) {
  if (touches_window(address, length)) return Errno(ENOMEM);
  const bool writable = (prot & PROT_WRITE) != 0;
  CallSites::Held held;
  if (writable || (prot & PROT_EXEC) != 0)
    held = task.memory->call_sites().text_changes(*task.stub, address, pages(address + length), writable);
  return native(task, {SYS_mprotect, {address, length, prot}});
}

Result<long> sys_madvise(Task& task, unsigned long address, unsigned long length, int advice) {
  if (touches_window(address, length)) return Errno(ENOMEM);
  return native(task, {SYS_madvise, {address, length, static_cast<uint64_t>(advice)}});
}

Result<long> sys_mremap(Task& task, unsigned long old_address, unsigned long old_length, unsigned long new_length, unsigned flags,
                        unsigned long new_address) {
  if (touches_window(old_address, old_length) || touches_window(old_address, new_length)) return Errno(EFAULT);
  if ((flags & MREMAP_FIXED) != 0 && touches_window(new_address, new_length)) return Errno(EINVAL);
  // Jumps to thunks reach them from where they are. (A guest's own call moves only what it makes larger: CallSites::settle_moved.)
  CallSites& sites = task.memory->call_sites();
  const CallSites::Held held = sites.text_changes(*task.stub, old_address, pages(old_address + old_length), true);
  const Result<long> moved = native(task, {SYS_mremap, {old_address, old_length, new_length, flags, new_address}});
  if (moved) sites.forget_held(static_cast<uint64_t>(*moved), pages(static_cast<uint64_t>(*moved) + new_length));
  return moved;
}

Result<long> sys_brk(Task& task, unsigned long wanted) {
  AddressSpace& memory = *task.memory;
  // Pages come in larger pieces than programs ask for, so that most calls change a number only.
  constexpr uint64_t kPiece = 256 * 1024;
  uint64_t brk, mapped, start;
  {
    std::lock_guard guard(memory.lock);
    brk = memory.layout.brk;
    mapped = memory.layout.brk_mapped;
    start = memory.layout.start_brk;
  }
  const rlim_t limit = task.group->limit(RLIMIT_DATA).rlim_cur;
  if (wanted < start || wanted - start > limit || wanted - start > (1ULL << 44) || touches_window(start, wanted - start))
    return static_cast<long>(brk);
  uint64_t now_mapped = mapped;
  if (pages(wanted) > mapped) {
    const uint64_t end = mapped + ((pages(wanted) - mapped + kPiece - 1) & ~(kPiece - 1));
    if (!native(task, {SYS_mmap,
                       {mapped, end - mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE,
                        ~0ULL, 0}}))
      return static_cast<long>(brk);
    now_mapped = end;
  } else if (wanted < brk) {
    // What is given back reads as zeros when it is taken again.
    if (pages(wanted) < mapped && !native(task, {SYS_munmap, {pages(wanted), mapped - pages(wanted)}})) return static_cast<long>(brk);
    now_mapped = std::min(mapped, pages(wanted));
    if (wanted < now_mapped) {
      IoBuffer rest(task.host_tid(), UserSpan{wanted, now_mapped - wanted});
      (void)rest.put_zeros(now_mapped - wanted);
    }
  }
  std::lock_guard guard(memory.lock);
  memory.layout.brk = wanted;
  memory.layout.brk_mapped = now_mapped;
  return static_cast<long>(wanted);
}

// Native, but for guests whose own calls all trap.
Result<long> sys_msync(Task& task, unsigned long address, unsigned long length, int flags) {
  return native(task, {SYS_msync, {address, length, static_cast<uint64_t>(flags)}});
}
Result<long> sys_mlock(Task& task, unsigned long address, unsigned long length) { return native(task, {SYS_mlock, {address, length}}); }
Result<long> sys_munlock(Task& task, unsigned long address, unsigned long length) { return native(task, {SYS_munlock, {address, length}}); }
Result<long> sys_membarrier(Task& task, int command, unsigned flags, int cpu) {
  return native(task, {SYS_membarrier, {static_cast<uint64_t>(command), flags, static_cast<uint64_t>(cpu)}});
}
Result<long> sys_rseq(Task& task, unsigned long area, unsigned length, int flags, unsigned signature) {
  return native(task, {SYS_rseq, {area, length, static_cast<uint64_t>(flags), signature}});
}

// Nothing is ever swapped out on the guest's account alone.
// MLOCK_ONFAULT: what is there now is locked and what comes later; all of it is made to be there here.
Result<long> sys_mlock2(Task& task, unsigned long address, unsigned long length, unsigned flags) {
  if ((flags & ~MLOCK_ONFAULT) != 0) return Errno(EINVAL);
  return sys_mlock(task, address, length);
}
Result<long> sys_mlockall(Task&, int flags) {
  if (flags == 0 || (flags & ~7) != 0) return Errno(EINVAL);
  return 0L;
}
Result<long> sys_munlockall(Task&) { return 0L; }

// Where the addresses of guests end (TASK_SIZE).
constexpr uint64_t kGuestEnd = (1ULL << 47) - kPage;

Result<long> sys_mincore(Task& task, unsigned long address, unsigned long length, UserPtr<unsigned char> to) {
  if (address % kPage != 0) return Errno(EINVAL);
  // Who walks its memory with it (grep, where maps cannot be read) goes on until something is not mapped.
  if (length > (1ULL << 40) || address > kGuestEnd || !TRY(is_mapped(task, address, address + length))) return Errno(ENOMEM);
  // "All there": which pages of shared files are in memory is nobody's business here.
  std::array<unsigned char, kPage> all;
  all.fill(1);
  const uint64_t pages = (length + kPage - 1) / kPage;
  for (uint64_t done = 0; done < pages; done += all.size())
    TRY(task.write_bytes(to.address() + done, all.data(), std::min<uint64_t>(all.size(), pages - done)));
  return 0L;
}

}  // namespace

std::span<const SyscallRow> memory_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(mmap, 9, Partial, "no huge pages"),
      SYSCALL(mprotect, 10, Full, ""),
      SYSCALL(munmap, 11, Full, ""),
      SYSCALL(brk, 12, Full, ""),
      SYSCALL(mremap, 25, Full, ""),
      SYSCALL(mincore, 27, Partial, "says that every page that is mapped is in memory"),
      SYSCALL(msync, 26, Full, ""),
      SYSCALL(madvise, 28, Full, ""),
      SYSCALL(mlock, 149, Full, ""),
      SYSCALL(mlock2, 325, Partial, "MLOCK_ONFAULT locks as mlock does"),
      SYSCALL(munlock, 150, Full, ""),
      SYSCALL(mlockall, 151, Partial, "does nothing"),
      SYSCALL(munlockall, 152, Partial, "does nothing"),
      SYSCALL(membarrier, 324, Full, ""),
      SYSCALL(rseq, 334, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
