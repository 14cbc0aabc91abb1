// The container's root: bound in place, filled by others (mounts.h, devices.h), and then made the root of the process.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "container/init.h"

namespace caisson::container {

// Stops what happens here from reaching the host's mounts, binds the root file system (the working directory, where the creator has put us)
// onto itself, and returns its descriptor. Without a mount namespace of the container's own it is only opened.
Result<UniqueFd> prepare_root(InitContext& context);

// linux.readonlyPaths and linux.maskedPaths. After the hooks, which may want to write there.
Result<void> protect_paths(const oci::Spec& spec, int root);

// process.cwd is made if it is missing, as runc does.
Result<void> make_working_directory(const oci::Spec& spec, int root);

// root.readonly, then pivot_root(2) (or MS_MOVE and chroot, or only chroot), then linux.rootfsPropagation.
Result<void> enter_root(InitContext& context, int root);

}  // namespace caisson::container
