// What is mounted where: lines of /proc/<pid>/mountinfo (proc_pid_mountinfo(5)).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace caisson::microvm {

struct MountedAt {
  uint64_t id = 0;    // statx(2)'s stx_mnt_id
  std::string point;  // unescaped
  std::string type;   // "ext4", "proc"...
};
// In the table's order: what is mounted later comes later. Lines that are not as the manual says are left out.
std::vector<MountedAt> parse_mount_table(std::string_view mountinfo);
// True for what is strictly below folder ("" for the root).
bool is_below(std::string_view path, std::string_view folder);
// File systems that are interfaces to the host's kernel ("proc", "sysfs", "cgroup2"...): they must not reach a guest.
bool is_kernel_interface(std::string_view type);

}  // namespace caisson::microvm
