// linux.personality (personality(2)).
#pragma once

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::container {

// Of the calling process, which hands it on to what it executes.
Result<void> set_personality(const oci::Spec& spec);

}  // namespace caisson::container
