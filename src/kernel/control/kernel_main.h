// The kernel process, and the processes that stand for an exec and for a container's first process.
#pragma once

namespace caisson::kernel {

// Body of the hidden subcommand: PID 1 of a PID namespace of its own. Serves until the last of its containers has ended. Never returns.
int kernel_process_main();

// Body of the other: hands its standard streams to the kernel process, passes signals on, and exits as the guest's process does.
int kernel_exec_main();

// Body of the third: the first process, as the host sees it, of a container, in the PID namespace of the kernel process
// and in the container's own cgroup, mount namespace and so on. Makes the container's zygote, hands that, the mounts and the streams to the
// kernel process, and goes on as kernel_exec_main() does.
int kernel_join_main();

// Of a container in which something is to run before its start: hands all that over, and ends with 0. The kernel process holds the
// container's first process until kernel_join_main() comes.
int kernel_early_main();

// Body of the fourth: a network broker (net/broker.h) beside a kernel process that is there. Never returns.
[[noreturn]] void kernel_broker_main();

}  // namespace caisson::kernel
