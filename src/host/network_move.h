// Moving a network interface into another network namespace.
#pragma once

#include <string>

#include "base/result.h"

namespace caisson::host {

// Moves interface `name` of the calling process's network namespace into the one of the descriptor, as `new_name`, with its permanent
// addresses of global scope, which the kernel would drop, and brings it up there. The calling process (one thread) is in the other
// namespace for a moment. Errors name the interface.
Result<void> move_interface(const std::string& name, int network_namespace, const std::string& new_name);

}  // namespace caisson::host
