// Making init: a child of this process's parent, in the namespaces of the spec.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "host/namespaces.h"
#include "host/process.h"
#include "oci/spec.h"

namespace caisson::container {

// Clones init with the fresh namespaces (all but the cgroup namespace, which init makes once it is in its cgroup) into the joined ones.
// Returns twice, as fork(2) does; in the child pid is 0 and the working directory is rootfs. The caller's own namespaces are what they
// were.
//
// A joined user namespace cannot be left again: then a go-between, itself a child of this process's parent, joins it, makes init, and exits
// with 0.
//
// cgroup: the cgroup v2 folder to start in, or -1.
Result<host::Cloned> spawn_init(const oci::Spec& spec, const std::string& rootfs, int cgroup);

// The specification asks for a namespace of that type of the container's own making.
bool has_fresh(const oci::Spec& spec, const char* type);
// As user_namespaces(7) has them.
std::vector<host::IdRange> ranges_of(const std::vector<oci::IdMapping>& mappings);
// The id maps of a process that spawn_init() has put into a fresh user namespace; nothing to do for others. Errors name the members.
Result<void> write_id_maps(const oci::Spec& spec, pid_t pid);

}  // namespace caisson::container
