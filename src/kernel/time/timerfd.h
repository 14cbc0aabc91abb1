// TimerFd: timerfd_create(2).
#pragma once

#include <time.h>

#include "kernel/time/guest_timer.h"
#include "kernel/vfs/anonymous.h"

namespace caisson::kernel {

class TimerFd : public AnonymousFile {
 public:
  TimerFd(clockid_t clock, int flags);
  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override;
  Events poll() override { return timer_->due() ? POLLIN | POLLRDNORM : 0; }
  WaitQueue* wait_queue() override { return queue_.get(); }
  clockid_t clock() const { return clock_; }
  GuestTimer& timer() { return *timer_; }

 private:
  const clockid_t clock_;
  std::shared_ptr<WaitQueue> queue_;  // also the timer's, whose thread may be waking it while the file goes
  std::shared_ptr<GuestTimer> timer_;
};

}  // namespace caisson::kernel
