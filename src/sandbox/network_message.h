// host::Network as the protocol carries it.
#pragma once

#include "host/network.h"
#include "sandbox.pb.h"

namespace caisson::sandbox {

v1::Network network_to_message(const host::Network& network);
// A message of more than 64 interfaces, or 4,096 routes or neighbours is EINVAL.
Result<host::Network> network_from_message(const v1::Network& message);

}  // namespace caisson::sandbox
