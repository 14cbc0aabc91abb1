// What the kernel process gives up before it serves a guest.
#pragma once

#include <cstdint>

#include "kernel/errno.h"

namespace caisson::kernel {

// A private mount of this PID namespace's /proc, by descriptor only (host_proc.h, identity.h).
Result<void> open_own_proc();

// Capabilities that are not needed to act on the container's files and network; those about the network only where the guest has them, too.
Result<void> drop_privileges(uint64_t guests);

// Gives the controlling terminal up, so that it becomes one of the helper that watches its size. No signal is left pending.
void leave_terminal(int fd);

}  // namespace caisson::kernel
