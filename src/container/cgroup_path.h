// linux.cgroupsPath (runtime-spec config-linux.md, "Cgroups Path") to a path below the cgroup mount points: pure.
#pragma once

#include <string>

#include "base/result.h"

namespace caisson::container {

struct CgroupLocation {
  std::string path;        // "/machine/x", clean
  bool below_own = false;  // relative to this process's own cgroup, else to the mount points
};

// As runc: an absolute path is below the mount points, a relative or empty one (then the id) below the own cgroup.
// systemd: "slice:prefix:name", the folders that systemd would make: a-b.slice is a.slice/a-b.slice; empty is system.slice:caisson:<id>.
// EINVAL names linux.cgroupsPath.
Result<CgroupLocation> locate_cgroup(const std::string& cgroups_path, const std::string& id, bool systemd);

// "a-b-c.slice" -> "/a.slice/a-b.slice/a-b-c.slice", "-.slice" -> "/" (systemd.slice(5)).
Result<std::string> expand_slice(const std::string& slice);

}  // namespace caisson::container
