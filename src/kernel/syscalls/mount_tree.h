// Trees of mounts that are attached nowhere, as descriptors.
#pragma once

#include <memory>

#include "kernel/vfs/file.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

// An O_PATH descriptor of the root of a table that nobody lives in; with it the mounts go that have not been moved. EINVAL: it is empty.
Result<FileRef> make_tree_file(std::shared_ptr<MountTable> table);
// MOUNT_ATTR_* as MS_*. Without a word about access times they are relative ones.
unsigned long mount_flags_of(uint64_t attributes);
// Whether these are attributes that a mount can have.
bool are_mount_attributes(uint64_t attributes);

}  // namespace caisson::kernel
