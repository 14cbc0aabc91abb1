// What is mounted where: the lines of /proc/<pid>/mountinfo.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace caisson {

// One line (proc_pid_mountinfo(5)). Paths and the source are unescaped.
struct MountInfo {
  uint64_t id = 0;            // statx(2)'s stx_mnt_id
  std::string root;           // what of the file system is mounted: "/" for all of it
  std::string point;          // as seen from the process's root
  std::string options;        // of the mount: "ro,nosuid"
  std::string type;           // "ext4", "proc"...
  std::string source;         // a device, or what the file system likes to call its source
  std::string super_options;  // of the file system: "rw,memory"
  std::string tags;           // how it spreads: "shared:7 master:3", "unbindable"; empty: private
  bool operator==(const MountInfo&) const = default;
};

// In the table's order: what is mounted later comes later. Lines that are not as the manual says are left out.
std::vector<MountInfo> parse_mountinfo(std::string_view text);

}  // namespace caisson
