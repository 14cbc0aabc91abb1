// spec.mounts, put into the root file system one after the other.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "container/init.h"
#include "container/mount_plan.h"
#include "container/note.h"

namespace caisson::container {

Result<void> make_mounts(InitContext& context, int root);

// A detached clone of a mount's source, or of the root file system (kRootSource), that the creator makes with its own rights.
Result<UniqueFd> wanted_source(InitContext& context, int index);

// The creator's answer to SourceWanted.
Result<UniqueFd> open_source(const oci::Spec& spec, const std::string& bundle, int index);

// Type "cgroup" (container/cgroup_mounts.cc): version 1 gets one folder per controller, version 2 the one tree.
Result<void> mount_cgroups(InitContext& context, const MountPlan& plan, int target);

// Copies what is in a folder into another one, on another file system: files, links, nodes, owners, modes, times and extended attributes.
Result<void> copy_folder(int from, int to);

}  // namespace caisson::container
