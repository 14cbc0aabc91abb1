// TimerService: one thread that waits for the next of many points of time.
//
// Locks: its own is a leaf. Alarm::expired() runs in the service's thread with no lock held.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace caisson::kernel {

class Alarm : public std::enable_shared_from_this<Alarm> {
 public:
  virtual ~Alarm();
  // The point has been reached, or it was changed in the last moment: look at the clock.
  virtual void expired() = 0;

 private:
  friend class TimerService;
  int64_t at_ = -1;  // under TimerService::lock_
};

class TimerService {
 public:
  // The one of this process; its thread begins with the first alarm.
  static TimerService& get();
  // Calls alarm.expired() at this point of CLOCK_MONOTONIC (nanoseconds), instead of at an earlier given one; -1: not at all.
  void set(Alarm& alarm, int64_t at);

 private:
  void run();
  struct Entry {
    int64_t at;
    Alarm* key;
    std::weak_ptr<Alarm> alarm;
    bool operator<(const Entry& other) const { return at != other.at ? at < other.at : key < other.key; }
  };
  std::mutex lock_;
  std::condition_variable changed_;
  std::set<Entry> entries_;
  std::thread thread_;
};

}  // namespace caisson::kernel
