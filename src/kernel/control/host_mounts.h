// The mounts that the host has made below the container's root become mounts of the kernel's own table: guests see them in /proc/mounts,
// and their flags hold.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "base/mountinfo.h"
#include "base/unique_fd.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {

// A mount of the container's, held by a mount of the kernel process's own that lies in no namespace: nosuid and nodev whatever the
// container's is, with nothing mounted below it, and no way up.
struct OpenMount {
  MountInfo mount;
  UniqueFd fd;
};
// Those in mountinfo's text, in its order, without those whose place `skip` names; the root always. What cannot be opened is logged and
// left out.
std::vector<OpenMount> open_host_mounts(std::string_view mountinfo, const std::function<bool(std::string_view)>& skip);

// Adds them, but the root, to the container's table; before each, calls before(its point).
void import_host_mounts(Task& setup, Container& container, std::vector<OpenMount> mounts,
                        const std::function<void(std::string_view point)>& before);

}  // namespace caisson::kernel
