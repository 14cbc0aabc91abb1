// What a valid config.json may ask for that cannot be done here: refused by name before anything is made.
#pragma once

#include "base/result.h"
#include "container/container.h"

namespace caisson::container {

Result<void> check_spec(const oci::Spec& spec, const CreateOptions& options, const Stdio& stdio);

}  // namespace caisson::container
