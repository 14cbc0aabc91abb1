// linux.resources applied to a cgroup (runtime-spec config-linux.md, "Control groups").
#pragma once

#include "host/cgroup.h"
#include "oci/spec.h"

namespace caisson::container {

// Writes every limit; for v2 converts v1's values as runc does (shares to weight, swap, blkio weight) and attaches the device filter
// (BPF_PROG_TYPE_CGROUP_DEVICE). A limit that the host's cgroups cannot express: EINVAL naming "linux.resources.<member>" when the user
// asked for it explicitly, a warning by name when the controller is missing for all containers of the node and runc would go on. update:
// leave out devices unless given, and order memory and swap writes so that each is legal.
Result<void> apply_resources(const host::CgroupPaths& paths, const oci::Resources& resources, bool update);

}  // namespace caisson::container
