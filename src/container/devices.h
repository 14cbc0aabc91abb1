// /dev: the default nodes, linux.devices, the usual links.
#pragma once

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::container {

// False when a mount brings the host's /dev: nothing is made there then, as runc does.
bool makes_devices(const oci::Spec& spec);

// In a user namespace, and wherever mknod(2) is not allowed, the host's node is bound instead.
Result<void> make_devices(const oci::Spec& spec, int root);

}  // namespace caisson::container
