// A mount's options, read by the table of oci/mount_options.h into what the calls want.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "oci/spec.h"

namespace caisson::container {

struct MountPlan {
  bool bind = false;
  bool recursive = false;  // rbind
  bool remount = false;
  bool tmpcopyup = false;
  bool idmap = false, idmap_recursive = false;
  uint64_t set = 0, clear = 0;                      // MOUNT_ATTR_ flags of the mount itself
  uint64_t recursive_set = 0, recursive_clear = 0;  // and with all below it
  uint64_t propagation = 0;                         // MS_SHARED..., 0: as it comes
  bool propagation_recursive = false;
  unsigned long ms_flags = 0;           // for mount(2)
  std::vector<std::string> parameters;  // for the file system, superblock flags such as "sync" among them
};
MountPlan plan_mount(const oci::Mount& mount);

}  // namespace caisson::container
