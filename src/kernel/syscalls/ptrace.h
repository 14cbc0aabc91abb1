// Who may look into another process.
#pragma once

#include "kernel/task/task.h"

namespace caisson::kernel {

// ptrace(2), "Ptrace access mode checking", with real ids; under Kernel::tasks. One's own process: yes.
bool may_look_into(const Task& task, const Task& other);

}  // namespace caisson::kernel
