// PTRACE_O_TRACEEXIT.
#pragma once

#include <mutex>

namespace caisson::kernel {

class Task;

// Before a thread ends by its own doing or a signal: stops where its tracer wants to know. status: as wait(2) will tell it. A thread that
// ends because another one of its process does is not stopped. `lock` is of Kernel::tasks.
void trace_exit_locked(Task& task, std::unique_lock<std::mutex>& lock, int status);

}  // namespace caisson::kernel
