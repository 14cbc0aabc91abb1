// GuestTimer: a timer on a guest's clock, once or again and again: what timerfd, interval timers and POSIX timers are made of.
//
// Locks: its own, above Kernel::tasks (CPU clocks look there) and TimerService's. `fire` runs with no lock held.
#pragma once

#include <functional>

#include "kernel/time/timer_service.h"

namespace caisson::kernel {

class GuestTimer : public Alarm {
 public:
  struct Source {
    std::function<int64_t()> now;  // nanoseconds of the clock
    // CPU clocks go at a rate of their own: 0 (it stands) to this many nanoseconds each nanosecond. 0: it goes as CLOCK_MONOTONIC does.
    std::function<int()> most_rate;
  };
  struct Setting {
    int64_t left = 0;  // until the next expiration; 0: not armed
    int64_t interval = 0;
  };
  // fire(n): n expirations since the last. once_until_taken: after an expiration the timer rests until take() (timerfd).
  GuestTimer(Source source, bool once_until_taken, std::function<void(uint64_t)> fire)
      : source_(std::move(source)), rests_(once_until_taken), fire_(std::move(fire)) {}

  // value 0: off. absolute: value is a point of the clock. Returns the setting it had.
  Setting set(int64_t value, int64_t interval, bool absolute);
  Setting get();
  // Expirations since it was set or taken last.
  uint64_t take();
  // Has it expired since?
  bool due();
  void expired() override;

 private:
  void count_locked(int64_t now);
  void arm_locked(int64_t now);
  Setting get_locked(int64_t now);

  const Source source_;
  const bool rests_;
  const std::function<void(uint64_t)> fire_;
  std::mutex lock_;
  bool armed_ = false;
  int64_t target_ = 0;  // of the clock
  int64_t interval_ = 0;
  uint64_t ticks_ = 0;
};

}  // namespace caisson::kernel
