// linux.memoryPolicy (runtime-spec 1.3): set_mempolicy(2) for the container's processes.
#pragma once

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::container {

// Of the calling process, which hands it on to what it executes.
Result<void> set_memory_policy(const oci::Spec& spec);

}  // namespace caisson::container
