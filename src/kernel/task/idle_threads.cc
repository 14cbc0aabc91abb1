#include "kernel/task/idle_threads.h"

#include <utility>

#include "kernel/allocator.h"
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

}  // namespace caisson::kernel
