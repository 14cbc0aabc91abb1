// The kernel process, and the process that stands for an exec.
#pragma once

namespace caisson::kernel {

// Body of the hidden subcommand: PID 1 of the container's PID namespace, in its mount namespace. Serves until the container's first process
// has ended, and exits as it does. Never returns but with an exit status.
int kernel_process_main();

// Body of the other: hands its standard streams to the kernel process, passes signals on, and exits as the guest's process does.
int kernel_exec_main();

}  // namespace caisson::kernel
