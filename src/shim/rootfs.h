// The root file system that containerd asks a shim to mount: a list of mounts at <bundle>/rootfs.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace caisson::shim {

struct RootfsMount {
  std::string type;
  std::string source;
  std::string target;  // below the root, usually ""
  std::vector<std::string> options;
};

// Options as mount(8) has them: flags of mount(2), and what is left for the file system.
struct MountOptions {
  unsigned long flags = 0;
  std::string data;
};
MountOptions parse_mount_options(const std::vector<std::string>& options);

// Mounts them in order at <bundle>/rootfs; undoes what it did when one fails. The error names the mount.
Result<void> mount_rootfs(const std::string& bundle, const std::vector<RootfsMount>& mounts);
// Unmounts everything at and below <bundle>/rootfs. Idempotent, lazy: never blocks.
Result<void> unmount_rootfs(const std::string& bundle);

}  // namespace caisson::shim
