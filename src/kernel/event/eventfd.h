// EventFd: eventfd(2).
#pragma once

#include "kernel/vfs/anonymous.h"

namespace caisson::kernel {

class EventFd : public AnonymousFile {
 public:
  EventFd(uint64_t value, bool semaphore, int flags) : AnonymousFile("eventfd", 0600, flags), value_(value), semaphore_(semaphore) {}
  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override;
  Result<size_t> write(Task& task, IoBuffer& buffer, off_t offset) override;
  Events poll() override;
  WaitQueue* wait_queue() override { return &queue_; }

 private:
  static constexpr uint64_t kMost = ~0ULL - 1;
  std::mutex lock_;
  uint64_t value_;
  const bool semaphore_;
  WaitQueue queue_;
};

}  // namespace caisson::kernel
