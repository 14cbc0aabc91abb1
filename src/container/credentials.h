// Who the process is: ids, groups, capabilities.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::container {

// Capability sets as bit masks, as capset(2) has them.
struct CapabilitySets {
  uint64_t bounding = 0, effective = 0, permitted = 0, inheritable = 0, ambient = 0;
};
// Those of `capabilities` that this kernel knows and this process has; the others are warned about by name, as runc does. Absent: none at
// all.
CapabilitySets capability_sets(const oci::Process& process);

// Becomes process.user with process.capabilities; the bounding set first, the ambient set last. Needs CAP_SETUID, CAP_SETGID, CAP_SETPCAP.
Result<void> become_user(const oci::Process& process, const CapabilitySets& sets);

// Enters process.cwd; called before the user changes, since perhaps only root gets there.
bool try_working_directory(const oci::Process& process);
// Enters it now, as the user, unless it has been entered already; and proves that it is inside the container's root.
Result<void> enter_working_directory(const oci::Process& process, bool entered);

// uid 0 and gid 0 of a user namespace that this process has just entered.
Result<void> become_namespace_root();

// The user's home folder by /etc/passwd of the root we are in; "/" where it is not there.
std::string home_folder(uint32_t uid);

}  // namespace caisson::container
