// Sysfs: what programs look for in it: CPUs, memory, NUMA nodes, network interfaces by name. And the view of cgroup v2 that a container has
// of itself.
#pragma once

#include <memory>

#include "kernel/vfs/path.h"

namespace caisson::kernel {

Result<std::shared_ptr<FileSystem>> make_sysfs_file_system();

// What the sandbox says about a container's limits, for the view that the container has of its cgroup. At any time.
struct CgroupLimits {
  int64_t memory = -1;     // bytes; -1: no limit
  int64_t cpu_quota = -1;  // microseconds of `cpu_period`
  int64_t cpu_period = 100000;
  int64_t pids = -1;
  int64_t cpu_weight = 100;
};
void set_cgroup_limits(const CgroupLimits& limits);
CgroupLimits cgroup_limits();
Result<std::shared_ptr<FileSystem>> make_cgroup_file_system();

}  // namespace caisson::kernel
