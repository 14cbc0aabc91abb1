// Signals on the way back to the guest: handlers' frames, default actions, stops, restarts.
#pragma once

#include "kernel/errno.h"

namespace caisson::kernel {

class Task;

// Before every return to the guest. False: the task must end.
bool handle_signals(Task& task);

// rt_sigreturn(2): puts back what the frame at the stack pointer says. EFAULT: SIGSEGV is the answer.
Result<void> return_from_signal(Task& task);

}  // namespace caisson::kernel
