#include "kernel/task/idle_threads.h"

#include <malloc.h>

#include <utility>

#include "kernel/platform/host_calls.h"
#include "kernel/platform/stub_thread.h"

namespace caisson::kernel {

IdleThreads& IdleThreads::get() {
  static IdleThreads* threads = new IdleThreads;  // outlives all of them
  return *threads;
}

bool IdleThreads::give(std::unique_ptr<Task>& task) {
  std::lock_guard guard(lock_);
  if (waiting_.empty()) return false;
  Waiting* thread = waiting_.back();
  waiting_.pop_back();
  thread->task = std::move(task);
  // With the lock held: it is on the thread's stack, which takes the lock before it leaves.
  __atomic_store_n(&thread->served, 1, __ATOMIC_SEQ_CST);
  futex_wake_private(&thread->served);
  return true;
}

std::unique_ptr<Task> IdleThreads::wait() {
  Waiting self;
  {
    std::lock_guard guard(lock_);
    if (waiting_.size() >= kMost) return nullptr;
    waiting_.push_back(&self);
  }
  const int64_t until = monotonic_now() + kPatience;
  while (__atomic_load_n(&self.served, __ATOMIC_SEQ_CST) == 0 && futex_wait_private(&self.served, 0, until)) continue;
  {
    std::lock_guard guard(lock_);
    std::erase(waiting_, &self);
  }
  if (!self.task) return_freed_memory();
  return std::move(self.task);
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
