// linux.sysctl: kernel parameters of the container's own namespaces.
#pragma once

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::container {

// Refuses, by name, what belongs to no namespace of the container's own: it would change the host.
Result<void> check_sysctls(const oci::Spec& spec);
// Writes them through the /proc that is there now (the host's, before the root is entered): they act on the namespaces of the caller.
Result<void> apply_sysctls(const oci::Spec& spec);

}  // namespace caisson::container
