#include "kernel/time/guest_timer.h"

#include <algorithm>
#include <utility>

#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

// A guest's interval may be a nanosecond; the service's thread must not spin for it.
constexpr int64_t kShortest = 100'000;
// A CPU clock is looked at this often at most.
constexpr int64_t kShortestCpu = 1'000'000;

int64_t add(int64_t a, int64_t b) { return b > INT64_MAX - a ? INT64_MAX : a + b; }

}  // namespace

void GuestTimer::count_locked(int64_t now) {
  if (!armed_ || now < target_) return;
  if (interval_ == 0) {
    ticks_ += 1;
    armed_ = false;
    return;
  }
  const uint64_t n = 1 + static_cast<uint64_t>(now - target_) / static_cast<uint64_t>(interval_);
  ticks_ += n;
  target_ = add(target_, static_cast<int64_t>(n) * interval_);
}

void GuestTimer::arm_locked(int64_t now) {
  TimerService& service = TimerService::get();
  if (!armed_ || (rests_ && ticks_ > 0)) return service.set(*this, -1);
  int64_t left = std::max<int64_t>(0, target_ - now);
  if (source_.most_rate) left = std::max(left / std::max(1, source_.most_rate()), kShortestCpu);
  if (interval_ > 0 && !rests_) left = std::max(left, std::min(interval_, kShortest) < kShortest ? kShortest : int64_t{0});
  service.set(*this, add(monotonic_now(), left));
}

GuestTimer::Setting GuestTimer::get_locked(int64_t now) {
  count_locked(now);
  if (!armed_) return {0, interval_};
  return {std::max<int64_t>(1, target_ - now), interval_};
}

GuestTimer::Setting GuestTimer::set(int64_t value, int64_t interval, bool absolute) {
  const int64_t now = source_.now();
  std::lock_guard guard(lock_);
  const Setting old = get_locked(now);
  armed_ = value != 0;
  interval_ = interval;
  ticks_ = 0;
  target_ = absolute ? value : add(now, value);
  arm_locked(now);
  return old;
}

GuestTimer::Setting GuestTimer::get() {
  const int64_t now = source_.now();
  std::lock_guard guard(lock_);
  return get_locked(now);
}

uint64_t GuestTimer::take() {
  const int64_t now = source_.now();
  std::lock_guard guard(lock_);
  count_locked(now);
  const uint64_t ticks = std::exchange(ticks_, 0);
  if (ticks > 0) arm_locked(now);
  return ticks;
}

bool GuestTimer::due() {
  const int64_t now = source_.now();
  std::lock_guard guard(lock_);
  count_locked(now);
  return ticks_ > 0;
}

void GuestTimer::expired() {
  const int64_t now = source_.now();
  uint64_t n = 0;
  {
    std::lock_guard guard(lock_);
    count_locked(now);
    n = ticks_;
    if (!rests_) ticks_ = 0;
    arm_locked(now);
  }
  if (n > 0) fire_(n);
}

}  // namespace caisson::kernel
