#include "kernel/time/timerfd.h"

#include "kernel/time/clock.h"

namespace caisson::kernel {

TimerFd::TimerFd(clockid_t clock, int flags)
    : AnonymousFile("timerfd", 0600, flags),
      clock_(clock),
      queue_(std::make_shared<WaitQueue>()),
      timer_(std::make_shared<GuestTimer>(GuestTimer::Source{[clock] { return wall_clock_now(clock); }, {}}, true,
                                          [queue = queue_](uint64_t) { queue->wake(POLLIN | POLLRDNORM); })) {}

Result<size_t> TimerFd::read(Task&, IoBuffer& buffer, off_t) {
  if (buffer.left() < sizeof(uint64_t)) return Errno(EINVAL);
  const uint64_t ticks = timer_->take();
  if (ticks == 0) return Errno(EAGAIN);
  return buffer.put(&ticks, sizeof ticks);
}

}  // namespace caisson::kernel
