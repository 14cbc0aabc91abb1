// linux.sysctl: kernel parameters of the container's own namespaces.
#pragma once

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::container {

// Refuses, by name, what would change the host because the namespace to be joined is the host's own. (Parsing has refused what belongs to
// no namespace of the spec's.) in_guest: CreateOptions::in_guest.
Result<void> check_sysctls(const oci::Spec& spec, bool in_guest);
// Writes them through the /proc that is there now (the host's, before the root is entered): they act on the namespaces of the caller.
Result<void> apply_sysctls(const oci::Spec& spec);

}  // namespace caisson::container
