// Seccomp at each system call of a guest, and the host's part in it: a guest process whose filters may want to see a call that is native
// otherwise gets a second host filter, which traps everything but the blob's own calls (platform/filter.h).
#pragma once

#include <optional>

#include "kernel/errno.h"
#include "kernel/seccomp/state.h"

namespace caisson::kernel {

class Task;

// A task's filters look at the call that it makes. Nothing: the call may be served, as it is in the registers and in Task::syscall_number
// then (a tracer may have changed it). Else it is not served, and the task goes on (or ends) with this in rax.
std::optional<long> check_seccomp(Task& task);
// A call by another architecture's numbers (int 0x80), of which there are none here: what the filters say of it, else -ENOSYS.
long refuse_foreign_call(Task& task);

// Makes sure that the guest process traps what the state must see. ENOMEM, EIO: it does not. (Task::run does so too, after exec and fork.)
Result<void> enforce_seccomp(Task& task, const SeccompState& state);

}  // namespace caisson::kernel
