// What makes a booted guest this sandbox's: time, randomness, name, the shared tree.
#pragma once

#include "base/result.h"
#include "sandbox/sandbox.h"

namespace caisson::agent {

Result<sandbox::v1::ConfigureResponse> configure_guest(const sandbox::v1::ConfigureRequest& request);

}  // namespace caisson::agent
