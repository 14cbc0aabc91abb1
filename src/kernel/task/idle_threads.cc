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
  Waiting* thread;
  {
    std::lock_guard guard(lock_);
    if (waiting_.empty()) return false;
    thread = waiting_.back();
    waiting_.pop_back();
  }
  task->begin();
  thread->task = std::move(task);
  uint32_t* served = &thread->served;
  __atomic_store_n(served, 1, __ATOMIC_SEQ_CST);
  // The word is on the thread's stack, and may be something else's by now: a wake-up reads nothing, and one too many harms nobody.
  futex_wake_private(served);
  return true;
}

std::unique_ptr<Task> IdleThreads::wait() {
  Waiting self;
  {
    std::lock_guard guard(lock_);
    if (waiting_.size() >= kMost) return nullptr;
    waiting_.push_back(&self);
  }
  const auto served = [&] { return __atomic_load_n(&self.served, __ATOMIC_SEQ_CST) != 0; };
  const int64_t until = monotonic_now() + kPatience;
  while (!served() && futex_wait_private(&self.served, 0, until)) continue;
  if (!served()) {
    std::unique_lock guard(lock_);
    if (std::erase(waiting_, &self) != 0) {
      guard.unlock();
      return_freed_memory();
      return nullptr;
    }
  }
  // Taken from the list in the last moment.
  while (!served()) futex_wait_private(&self.served, 0, -1);
  return std::move(self.task);
}

}  // namespace caisson::kernel
