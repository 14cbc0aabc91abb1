// run_worker: blocking work in a forked process, so that an event loop never blocks and nothing but plain single-threaded code
// runs between fork and exec.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "host/event_loop.h"

namespace caisson::host {

// What a worker hands back: bytes, and descriptors (at most 64).
struct WorkerOutput {
  std::string payload;
  std::vector<UniqueFd> fds;
};

struct WorkerOptions {
  // The worker becomes a child of this process's parent (CLONE_PARENT), and so do processes that it makes with CLONE_PARENT.
  bool sibling = false;
  // 0: none. When it passes the worker is killed and done gets ETIMEDOUT.
  std::chrono::milliseconds deadline{0};
  // Where given, the worker closes every descriptor but these, 0 to 2 and the log's; else it closes only those that the loop watches. So
  // processes that it leaves behind hold nothing of other containers and connections.
  std::optional<std::vector<int>> keep_fds;
};

// Forks; the child runs work() and sends its result; done(result) runs in the loop, as soon as the result is there. A worker that dies
// without a result gives EIO. The calling process must be single-threaded. The worker starts with no signal blocked; ignored signals stay
// ignored. It dies with this process (PR_SET_PDEATHSIG), but for a sibling, whose parent is another. Returns a function that kills the
// worker, if it still runs: done gets ECANCELED then.
std::function<void()> run_worker(EventLoop& loop, WorkerOptions options, std::function<Result<WorkerOutput>()> work,
                                 std::function<void(Result<WorkerOutput>)> done);

}  // namespace caisson::host
