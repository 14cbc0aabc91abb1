// A container's cgroup, on version 1, version 2 and hybrid hosts (cgroups(7)): one object for all three.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::host {

enum class CgroupVersion { V1, V2 };  // a hybrid host counts as V1: its controllers are there

// What the mount table says. Cached after the first call.
struct CgroupLayout {
  CgroupVersion version = CgroupVersion::V2;
  std::string unified;                             // v2 mount point, "" if none (hybrid: the empty v2 tree)
  std::map<std::string, std::string> controllers;  // v1: controller or "name=systemd" -> mount point
};
Result<CgroupLayout> cgroup_layout();

// Everything needed to find a cgroup again after a restart: plain data for a state file.
struct CgroupPaths {
  CgroupVersion version = CgroupVersion::V2;
  std::string path;                          // below the mount points, "/machine/x"
  std::map<std::string, std::string> folders;  // "" -> folder (v2), or controller -> folder (v1)
};

}  // namespace caisson::host
