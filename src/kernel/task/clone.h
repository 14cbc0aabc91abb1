// New tasks: clone(2), fork, vfork, threads.
#pragma once

#include <memory>

#include "kernel/errno.h"
#include "kernel/task/task.h"

namespace caisson::kernel {

// As clone3's struct clone_args.
struct CloneRequest {
  uint64_t flags = 0;
  int exit_signal = 0;
  uint64_t stack = 0;  // the new stack pointer; 0: the parent's
  uint64_t parent_tid = 0, child_tid = 0, tls = 0, pidfd = 0;
  std::shared_ptr<Cgroup> cgroup;  // of the new process (CLONE_INTO_CGROUP); null: the parent's
};
Result<long> clone_task(Task& parent, const CloneRequest& request);

// Gives a task its host thread. The task deletes itself at its end.
void start_thread(std::unique_ptr<Task> task);

}  // namespace caisson::kernel
