// How a host thread of the kernel's own waits for an event. Guests' threads use Task::block.
#pragma once

#include <condition_variable>
#include <mutex>

#include "kernel/task/wait.h"

namespace caisson::kernel {

class ThreadWaiter : public Waiter {
 public:
  void notify(Events) override {
    std::lock_guard guard(lock_);
    notified_ = true;
    changed_.notify_all();
  }
  // Until it is notified, or has been since the last call. Without a lock of the kernel's.
  void wait() {
    std::unique_lock lock(lock_);
    changed_.wait(lock, [this] { return notified_; });
    notified_ = false;
  }

 private:
  std::mutex lock_;
  std::condition_variable changed_;
  bool notified_ = false;
};

}  // namespace caisson::kernel
