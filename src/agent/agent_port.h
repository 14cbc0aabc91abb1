// The way to the host: the virtio port that is called "caisson.agent".
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::agent {

// Opens the port with that name. Waits for the kernel's uevents until it appears, at most so long: ETIMEDOUT. Only one process can have a
// port open, so no container ever gets it from us.
Result<UniqueFd> open_agent_port(const std::string& name, std::chrono::milliseconds patience);

}  // namespace caisson::agent
