// What is left of futexes: waiting and waking are native, also between processes: what they share is mapped from the same host file, and
// the host finds the same page. Priority inheritance is not: the host would look for the guest's thread numbers among its own.
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"

namespace caisson::kernel {
namespace {

// The C libraries answer ENOTSUP for mutexes with priority inheritance then.
Result<long> sys_futex(Task&, UserPtr<uint32_t>, int, uint32_t, UserPtr<void>, UserPtr<uint32_t>, uint32_t) { return Errno(ENOSYS); }
Result<long> sys_futex_waitv(Task&, UserPtr<void>, unsigned, unsigned, UserPtr<void>, int) { return Errno(ENOSYS); }

}  // namespace

std::span<const SyscallRow> futex_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(futex, 202, Partial, "no priority inheritance"),
      SYSCALL(futex_waitv, 449, None, "ENOSYS"),
  };
  return rows;
}

}  // namespace caisson::kernel
