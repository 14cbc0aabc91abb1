// linux.netDevices: network interfaces of the host that move into the container (runtime-spec 1.3).
#pragma once

#include <sys/types.h>

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::container {

// Moves them from this process's network namespace into that of pid. They end with the container's namespace, or, hardware, come back to
// the machine's first one: the kernel sees to that.
Result<void> move_network_devices(const oci::Spec& spec, pid_t pid);

}  // namespace caisson::container
