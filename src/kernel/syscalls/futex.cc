// What is left of futexes: waiting and waking are native, also between processes: what they share is mapped from the same host file, and
// the host finds the same page. Those with priority inheritance are not: the host would look for the guest's thread numbers among its own.
#include <linux/futex.h>
#include <time.h>

#include "kernel/platform/stub_thread.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/pi_futex.h"

namespace caisson::kernel {
namespace {

// The call of a guest whose own calls all trap, made by its stub as it would be made natively: it may wait, and be interrupted.
long make_natively(Task& task) {
  task.native_call = task.registers();
  StubThread::begin_native_call(task.registers());
  task.in_syscall = false;
  return static_cast<long>(task.syscall_number);
}

// An absolute time of the clock that the operation says (realtime: FUTEX_LOCK_PI has no other).
Result<Deadline> absolute_deadline(Task& task, UserPtr<const timespec> at, bool realtime) {
  if (!at) return Deadline::never();
  const timespec time = TRY(task.read(at));
  if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= 1'000'000'000) return Errno(EINVAL);
  if (time.tv_sec > INT64_MAX / 1'000'000'000 - 1) return Deadline::never();
  const int64_t nanoseconds = time.tv_sec * 1'000'000'000L + time.tv_nsec;
  return Deadline::after(nanoseconds - (realtime ? realtime_now() : monotonic_now()));
}

// With priority inheritance: the kernel's own.
Result<long> pi_operation(Task& task, uint64_t word, int operation, uint32_t value, uint64_t time_or_count, uint64_t word2,
                          uint32_t value3) {
  constexpr int kLockPi2 = 13;
  const bool own = (operation & FUTEX_PRIVATE_FLAG) != 0, realtime = (operation & FUTEX_CLOCK_REALTIME) != 0;
  const int command = operation & FUTEX_CMD_MASK;
  const UserPtr<const timespec> time(time_or_count);
  if (realtime && command != FUTEX_WAIT_REQUEUE_PI && command != kLockPi2) return Errno(ENOSYS);
  switch (command) {
    case FUTEX_LOCK_PI:
    case kLockPi2:
      TRY(lock_pi_futex(task, word, own, false, TRY(absolute_deadline(task, time, realtime || command == FUTEX_LOCK_PI))));
      return 0L;
    case FUTEX_TRYLOCK_PI:
      TRY(lock_pi_futex(task, word, own, true, Deadline::never()));
      return 0L;
    case FUTEX_UNLOCK_PI:
      TRY(unlock_pi_futex(task, word, own));
      return 0L;
    case FUTEX_WAIT_REQUEUE_PI:
      TRY(wait_requeue_pi_futex(task, word, value, word2, own, TRY(absolute_deadline(task, time, realtime))));
      return 0L;
    case FUTEX_CMP_REQUEUE_PI:
      if (value != 1) return Errno(EINVAL);
      return requeue_pi_futex(task, word, value3, word2, own, static_cast<int>(time_or_count));
    default:
      return Errno(ENOSYS);
  }
}

Result<long> sys_futex(Task& task, UserPtr<uint32_t> word, int operation, uint32_t value, unsigned long time_or_count,
                       UserPtr<uint32_t> word2, uint32_t value3) {
  switch (operation & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAKE:
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_WAKE_OP:
    case FUTEX_WAIT_BITSET:
    case FUTEX_WAKE_BITSET:
      return make_natively(task);
    default:
      return pi_operation(task, word.address(), operation, value, time_or_count, word2.address(), value3);
  }
}

Result<long> sys_futex_waitv(Task& task, UserPtr<void>, unsigned, unsigned, UserPtr<void>, int) { return make_natively(task); }

Result<long> sys_set_robust_list(Task& task, UserPtr<void> head, uint64_t size) {
  if (size != 24) return Errno(EINVAL);
  task.robust_list = head.address();
  return 0L;
}

Result<long> sys_get_robust_list(Task& task, int tid, UserPtr<uint64_t> head, UserPtr<uint64_t> size) {
  // Of another thread: the debugger's right on Linux.
  if (tid != 0 && tid != task.tid) return Errno(EPERM);
  TRY(task.write(size, uint64_t{24}));
  TRY(task.write(head, task.robust_list));
  return 0L;
}

}  // namespace

std::span<const SyscallRow> futex_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(futex, 202, Partial, "FUTEX_LOCK_PI and its kin lock, but no priority is inherited; no FUTEX_FD"),
      SYSCALL(set_robust_list, 273, Full, ""),
      SYSCALL(get_robust_list, 274, Partial, "of the calling thread only"),
      SYSCALL(futex_waitv, 449, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
