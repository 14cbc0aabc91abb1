// Learning how a container's process has ended: our own child, or one of our parent's (a sibling, so that an engine can reap it).
#pragma once

#include <functional>

#include "base/unique_fd.h"
#include "host/event_loop.h"

namespace caisson::sandbox::local {

// Whether we learn the exit status of a process that its parent has reaped: the kernel keeps it for those who hold the process's descriptor
// (6.15 and later), or tells us every end as it happens (ExitEvents).
bool sibling_status_supported();

// Calls ended(wait status, as of waitpid(2)) once. The child is reaped.
Result<void> watch_child_exit(host::EventLoop& loop, pid_t pid, std::function<void(int)> ended);
// The same for a process that somebody else reaps, sooner or later. pidfd was opened before it ended; borrowed until then.
Result<void> watch_sibling_exit(host::EventLoop& loop, int pidfd, pid_t pid, std::function<void(int)> ended);

}  // namespace caisson::sandbox::local
