#include "kernel/task/robust.h"

#include <linux/futex.h>
#include <sys/syscall.h>

#include <utility>

#include "kernel/platform/stub_thread.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

// struct robust_list_head.
struct Head {
  uint64_t first;
  int64_t offset;
  uint64_t pending;
};
constexpr int kMostEntries = 2048;    // ROBUST_LIST_LIMIT
constexpr uint64_t kInheritance = 1;  // in an entry's address

// Who waits may set its bit just now, which a plain write would lose: so it is always set, and somebody is always woken. The C libraries
// bear both.
void give_up(Task& task, uint64_t entry, int64_t offset, bool pending) {
  const uint64_t word = (entry & ~kInheritance) + static_cast<uint64_t>(offset);
  if (word % 4 != 0) return;
  const Result<uint32_t> value = task.read(UserPtr<uint32_t>(word));
  if (!value) return;
  const uint32_t owner = *value & FUTEX_TID_MASK;
  if (owner != static_cast<uint32_t>(task.tid)) {
    // It ended between giving the lock up and waking the next.
    if (!pending || owner != 0) return;
  } else if (!task.write(UserPtr<uint32_t>(word), static_cast<uint32_t>(FUTEX_OWNER_DIED | FUTEX_WAITERS))) {
    return;
  }
  (void)task.stub->run_one({SYS_futex, {word, FUTEX_WAKE, 1}});
}

}  // namespace

void give_up_robust_futexes(Task& task) {
  const uint64_t at = std::exchange(task.robust_list, 0);
  if (at == 0 || !task.stub || task.stub->process()->dead()) return;
  const Result<Head> head = task.read(UserPtr<Head>(at));
  if (!head) return;
  uint64_t entry = head->first;
  for (int i = 0; i < kMostEntries && (entry & ~kInheritance) != at && entry != 0; ++i) {
    const Result<uint64_t> next = task.read(UserPtr<uint64_t>(entry & ~kInheritance));
    if ((entry & ~kInheritance) != (head->pending & ~kInheritance)) give_up(task, entry, head->offset, false);
    if (!next) break;
    entry = *next;
  }
  if (head->pending != 0) give_up(task, head->pending, head->offset, true);
}

}  // namespace caisson::kernel
