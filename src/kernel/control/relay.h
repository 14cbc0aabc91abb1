// A host process that stands for a process of the guest: what both kinds (exec_main.cc, join_main.cc) do once the kernel process has it.
#pragma once

#include "base/unique_fd.h"
#include "kernel/errno.h"

namespace caisson::kernel {

// Blocks all signals; the descriptor that tells of them.
UniqueFd take_signals();

// Passes signals on until the guest's process has ended: its exit status. ECONNRESET, EPIPE: the kernel process has gone; else why the
// process could not be started. Standard error is closed when it has been.
Result<int> relay(int channel, int signals);

// Ends as that result says, with a line on standard error where the process could not be started. `what`: "exec".
[[noreturn]] void end_as(const Result<int>& status, const char* what);

}  // namespace caisson::kernel
