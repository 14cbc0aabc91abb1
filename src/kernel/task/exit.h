// The end of tasks and processes, and what their parents learn of it. "_locked": Kernel::tasks is held.
#pragma once

#include <sys/resource.h>

#include "kernel/errno.h"
#include "kernel/task/task.h"

namespace caisson::kernel {

// SIGCHLD (or the clone's signal) and a wake-up for wait.
void notify_parent_locked(ThreadGroup& group, int code, int status);
// No member of the process group has a parent in the same session but another group: terminal stops would last for ever.
bool is_orphaned_locked(const ThreadGroup& group);
// Everything in the PID namespace ends but `spared` (its first process, that has ended already; null: none), and nothing begins in it.
void end_namespace_locked(PidNamespace& pids, const ThreadGroup* spared);
// The task has left its stub; the last one makes its process a zombie.
void finish_task(Task& task);

// wait4 and waitid.
struct WaitRequest {
  int64_t pid = -1;      // as wait4's: > 0 a process, 0 our group, -1 any, < -1 a group
  unsigned options = 0;  // WEXITED | WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT | __WCLONE | __WALL
};
struct Waited {
  pid_t pid = 0;  // 0: nothing yet (WNOHANG)
  uid_t uid = 0;
  WaitStatus status;
  ThreadGroup::Usage usage;
};
Result<Waited> wait_for_child(Task& task, const WaitRequest& request);

}  // namespace caisson::kernel
