// EventLoop: one thread, epoll, timers and children. The sandbox process and the agent each run one.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"

namespace caisson::host {

// Not thread-safe: everything is called from the thread that runs it. Handlers may add and remove anything, themselves included.
class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using Handler = std::function<void(uint32_t epoll_events)>;
  using Task = std::function<void()>;
  using TimerId = uint64_t;

  static Result<std::unique_ptr<EventLoop>> create();
  ~EventLoop();

  // Watches a descriptor that the caller owns, and removes before closing it. events: EPOLLIN, EPOLLOUT... (level-triggered).
  Result<void> add(int fd, uint32_t events, Handler handler);
  Result<void> modify(int fd, uint32_t events);
  void remove(int fd);

  // Calls task once, after delay.
  TimerId add_timer(Clock::duration delay, Task task);
  void cancel_timer(TimerId id);

  // Calls task in the next turn.
  void post(Task task);

  // Calls ended(wait status, as of waitpid(2)) once when a child of this process has ended; reaps it. A child that somebody else has reaped
  // counts as killed by SIGKILL.
  Result<void> watch_child(pid_t pid, std::function<void(int wait_status)> ended);
  bool watches_child(pid_t pid) const;

  // From now on every ended child is reaped, also those that nobody watches: orphans (of PID 1 or a subreaper), and what workers have left
  // behind with CLONE_PARENT. The statuses of the last 4096 of these are kept, so that a child which ended before it was watched is not
  // lost. Blocks SIGCHLD.
  Result<void> reap_orphans();
  // The status of an ended child that nobody watched, once.
  std::optional<int> take_orphan_status(pid_t pid);

  // The loop's own descriptor and all that it watches: what a forked process that does not use the loop should close.
  std::vector<int> descriptors() const;

  // Runs until stop() is called; may be run again after that.
  Result<void> run();
  void stop();

 private:
  struct State;
  explicit EventLoop(std::unique_ptr<State> state);
  void child_ended(pid_t pid, int wait_status);
  void reap_children();

  std::unique_ptr<State> state_;
};

}  // namespace caisson::host
