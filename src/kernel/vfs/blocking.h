// blocking_op: try; if nothing is ready, wait on the file's queue and try again. The one loop of this kind.
#pragma once

#include "kernel/task/task.h"
#include "kernel/vfs/file.h"

namespace caisson::kernel {

// operation() returns a Result; EAGAIN means: not ready. Sleeps until `events` come, unless the file (or `dont_wait`) says not to. A signal
// ends it with kRestartSys; the deadline with EAGAIN.
template <typename Operation>
auto blocking_op(Task& task, File& file, Events events, Operation&& operation, bool dont_wait = false,
                 Deadline deadline = Deadline::never()) -> decltype(operation()) {
  auto result = operation();
  if (result.ok() || result.error() != Errno(EAGAIN) || dont_wait || file.nonblocking() || file.sleeps_itself() ||
      file.wait_queue() == nullptr)
    return result;
  const bool turns = events == POLLIN && file.readers_take_turns();
  result = [&]() -> decltype(operation()) {
    TaskWaiter waiter(task, *file.wait_queue(), events | POLLERR | POLLHUP, turns);
    for (;;) {
      task.prepare_to_block();
      file.arm(events);
      auto again = operation();
      if (again.ok() || again.error() != Errno(EAGAIN)) return again;
      if (auto slept = task.block(deadline); !slept) return slept.error() == Errno(ETIMEDOUT) ? Errno(EAGAIN) : slept.error();
    }
  }();
  // Whatever ended the wait, what is left is the next one's.
  if (turns && (file.poll() & POLLIN) != 0) file.wait_queue()->wake(POLLIN | POLLRDNORM);
  return result;
}

}  // namespace caisson::kernel
