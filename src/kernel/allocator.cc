#include "kernel/allocator.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "kernel/task/task.h"

namespace caisson::kernel {

void use_few_areas() {
  constexpr long kMost = 16;
  mallopt(M_ARENA_MAX, static_cast<int>(std::clamp(2 * sysconf(_SC_NPROCESSORS_ONLN), 2L, kMost)));
}

void return_freed_memory() {
  constexpr int64_t kPause = 1'000'000'000;
  static std::atomic<int64_t> last{0};
  const int64_t now = monotonic_now();
  int64_t before = last.load(std::memory_order_relaxed);
  if (now - before < kPause || !last.compare_exchange_strong(before, now, std::memory_order_relaxed)) return;
  malloc_trim(0);
}

}  // namespace caisson::kernel
