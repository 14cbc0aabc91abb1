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

// A mount of the container's, held by a mount of the kernel process's own: nosuid and nodev whatever the container's is, with nothing
// mounted below it, and no way up. It lies in no namespace; but one that is to hear of what is mounted below its source on the node later
// (rslave, rshared) lies in one that has such mounts only (let_mounts_hear).
struct OpenMount {
  MountInfo mount;
  UniqueFd fd;
};
// Those in mountinfo's text, in its order, without those whose place `skip` names; the root always. What cannot be opened is logged and
// left out.
std::vector<OpenMount> open_host_mounts(std::string_view mountinfo, const std::function<bool(std::string_view)>& skip);

// Puts those that are to hear of others' mounts (not the root) where they do, and adds what keeps that place: the descriptor of a mount
// namespace, as a mount of type kHearingPlace with no point. Where it fails it is logged, and they hear of nothing.
void let_mounts_hear(std::vector<OpenMount>& mounts);
inline constexpr const char* kHearingPlace = "caisson.mnt";

// Adds them, but the root, to the container's table; before each, calls before(its point).
void import_host_mounts(Task& setup, Container& container, std::vector<OpenMount> mounts,
                        const std::function<void(std::string_view point)>& before);

}  // namespace caisson::kernel
