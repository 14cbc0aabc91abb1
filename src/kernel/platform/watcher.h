// HostWatcher: one thread that waits for host descriptors (standard streams, sockets, pidfds) and wakes the queues of the files that stand
// for them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "base/unique_fd.h"
#include "kernel/errno.h"
#include "kernel/task/wait.h"

namespace caisson::kernel {

class HostWatcher {
 public:
  static Result<std::unique_ptr<HostWatcher>> create();
  ~HostWatcher();
  // Starts watching fd with no interest yet; ready(events) runs in the watcher's thread. EPERM: the descriptor is always ready (a regular
  // file).
  Result<uint64_t> add(int fd, std::function<void(Events)> ready);
  // One report, when any of `events` is there.
  void arm(uint64_t id, int fd, Events events);
  // Afterwards ready() does not run any more.
  void remove(uint64_t id, int fd);

 private:
  HostWatcher() = default;
  void run();
  UniqueFd epoll_, stop_;
  std::mutex lock_;
  std::map<uint64_t, std::shared_ptr<std::function<void(Events)>>> handlers_;
  uint64_t next_ = 1;
  std::thread thread_;
};

}  // namespace caisson::kernel
