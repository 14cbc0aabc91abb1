// Orphans become children of PID 1. Those that nobody here waits for are reaped.
#pragma once

#include <memory>
#include <set>

#include "base/result.h"
#include "base/unique_fd.h"
#include "host/event_loop.h"

namespace caisson::agent {

// An ended process that was made by us may be unknown for a moment, between its end and the answer of the worker that made it; taking its
// status then would lose it. So an ended child is only taken for an orphan when it has stayed unclaimed for kPatience.
class Reaper {
 public:
  static constexpr std::chrono::seconds kPatience{10};

  // Blocks SIGCHLD in this thread.
  static Result<std::unique_ptr<Reaper>> create(host::EventLoop& loop, std::chrono::milliseconds patience = kPatience);
  ~Reaper();

 private:
  Reaper(host::EventLoop& loop, UniqueFd signals, std::chrono::milliseconds patience)
      : loop_(loop), signals_(std::move(signals)), patience_(patience) {}
  void arm();
  void sweep();

  host::EventLoop& loop_;
  UniqueFd signals_;
  std::chrono::milliseconds patience_;
  host::EventLoop::TimerId timer_ = 0;
  std::set<pid_t> suspects_;  // ended, and unclaimed at the last sweep
};

}  // namespace caisson::agent
