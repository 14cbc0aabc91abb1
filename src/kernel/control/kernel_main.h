// The kernel process, and the processes that stand for an exec and for a further container of a pod.
#pragma once

namespace caisson::kernel {

// Body of the hidden subcommand: PID 1 of the container's PID namespace, in its mount namespace. Serves until the container's first process
// has ended, and exits as it does. Never returns but with an exit status.
int kernel_process_main();

// Body of the other: hands its standard streams to the kernel process, passes signals on, and exits as the guest's process does.
int kernel_exec_main();

// Body of the third: the first process, as the host sees it, of a further container of a pod, in the PID namespace of the kernel process
// and in the container's own cgroup, mount namespace and so on. Makes the container's zygote, hands that, the mounts and the streams to the
// kernel process, and goes on as kernel_exec_main() does.
int kernel_join_main();

}  // namespace caisson::kernel
