// What the guest's kernel tells of devices that come and go.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::agent {

// A socket of the kernel's own messages (uevents), non-blocking reads by MSG_DONTWAIT.
Result<UniqueFd> watch_devices();

}  // namespace caisson::agent
