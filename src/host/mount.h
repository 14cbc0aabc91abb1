// Mounts by descriptor: open_tree(2), fsopen(2), mount_setattr(2), move_mount(2). A mount is made detached, given its attributes, and then
// put onto a target that is a descriptor too: no path is looked up twice.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::host {

// A detached copy of the mount that path (relative to folder; "": the descriptor itself) is in, rooted at path; with what is mounted below
// if recursive. Symbolic links are followed.
Result<UniqueFd> clone_mount(int folder, const std::string& path, bool recursive);

// A detached new file system. parameters: "size=64k", "mode=755", "ro". The error tells what the kernel's log of the call says. attributes:
// MOUNT_ATTR_ flags. ENAMETOOLONG: a value is too long for fsconfig(2) (255 bytes).
Result<UniqueFd> make_filesystem(const std::string& type, const std::string& source, const std::vector<std::string>& parameters,
                                 uint64_t attributes);
// The older way, mount(2), straight onto the target.
Result<void> mount_filesystem(const std::string& type, const std::string& source, const std::vector<std::string>& parameters,
                              unsigned long ms_flags, int target);

// Puts a detached mount onto target.
Result<void> attach_mount(int mount, int target);

struct MountChange {
  uint64_t set = 0, clear = 0;  // MOUNT_ATTR_ flags
  uint64_t propagation = 0;     // MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE or 0
  int user_namespace = -1;      // with MOUNT_ATTR_IDMAP
  bool empty() const { return set == 0 && clear == 0 && propagation == 0; }
};
// Changes the mount that the descriptor is the root of, and with recursive those below it.
Result<void> change_mount(int mount, const MountChange& change, bool recursive);

// The MOUNT_ATTR_ flags that the mount of the descriptor has now (without MOUNT_ATTR_IDMAP).
Result<uint64_t> mount_attributes(int fd);

// f_type of statfs(2): PROC_SUPER_MAGIC...
Result<uint64_t> filesystem_magic(int fd);

}  // namespace caisson::host
