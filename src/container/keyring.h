// A session keyring per container, as runc has it: without one a container would share the keys of whoever started it.
#pragma once

#include <string>

#include "base/result.h"

namespace caisson::container {

// Joins (and makes, the first time) the keyring "_ses.<id>". A kernel without keyrings, or one where the caller may have no more, is not an
// error.
Result<void> join_session_keyring(const std::string& id);

}  // namespace caisson::container
