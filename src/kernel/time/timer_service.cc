#include "kernel/time/timer_service.h"

#include "kernel/task/task.h"

namespace caisson::kernel {

Alarm::~Alarm() { TimerService::get().set(*this, -1); }

TimerService& TimerService::get() {
  // Never destroyed: its thread lives as long as the process.
  static TimerService* const service = new TimerService;
  return *service;
}

void TimerService::set(Alarm& alarm, int64_t at) {
  std::lock_guard guard(lock_);
  if (alarm.at_ >= 0) entries_.erase({alarm.at_, &alarm, {}});
  alarm.at_ = at;
  if (at < 0) return;
  const auto [entry, added] = entries_.insert({at, &alarm, alarm.weak_from_this()});
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  if (entry == entries_.begin()) changed_.notify_one();
}

void TimerService::run() {
  std::unique_lock lock(lock_);
  for (;;) {
    if (entries_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const Entry next = *entries_.begin();
    if (next.at > monotonic_now()) {
      changed_.wait_until(lock, std::chrono::steady_clock::time_point(std::chrono::nanoseconds(next.at)));
      continue;
    }
    entries_.erase(entries_.begin());
    std::shared_ptr<Alarm> alarm = next.alarm.lock();
    if (!alarm) continue;
    if (alarm->at_ == next.at) alarm->at_ = -1;
    lock.unlock();
    alarm->expired();
    alarm.reset();  // its end takes the lock
    lock.lock();
  }
}

}  // namespace caisson::kernel
