// The mounts that the host has made below the container's root become mounts of the kernel's own table: guests see them in /proc/mounts,
// and their flags hold.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernel/task/kernel.h"

namespace caisson::kernel {

struct HostMount {
  std::string point, type, source, options;  // of the mount itself: "ro,nosuid"
  bool operator==(const HostMount&) const = default;
};

// proc_pid_mountinfo(5), in its order. Pure.
std::vector<HostMount> parse_mountinfo(std::string_view text);

// Adds them to the container's table; `skip` says which not (by their place). What cannot be opened is logged and left out: it stays
// reachable through the file system below.
void import_host_mounts(Task& setup, Container& container, const std::vector<HostMount>& mounts,
                        const std::function<bool(std::string_view)>& skip);

}  // namespace caisson::kernel
