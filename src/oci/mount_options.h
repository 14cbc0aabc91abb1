// Every mount option that Caisson itself understands: one row each (config.md, "Linux mount options"). The mounting code applies a row,
// `features` lists the names. What is not here (size=64k, mode=755...) is data for the file system.
#pragma once

#include <sys/mount.h>

#include <cstdint>
#include <string_view>

namespace caisson::oci {

enum class MountOptionKind {
  Flag,         // set and clear are MS_ flags for mount(2); for a bind mount, of the remount that follows it
  Recursive,    // set and clear are MOUNT_ATTR_ flags for mount_setattr(2) with AT_RECURSIVE, applied after mounting
  Propagation,  // set is a propagation type, with MS_REC where recursive; a mount(2) call of its own after mounting. The last one given
                // counts
  TmpCopyUp,    // a tmpfs that starts with a copy of what it covers
  IdMap,        // id-mapped mount of the mount alone, by the mount's mappings or else the container's
  RIdMap,       // the same, with what is mounted below it
};

struct MountOption {
  std::string_view name;
  MountOptionKind kind;
  uint64_t set;
  uint64_t clear;
};

inline constexpr MountOption kMountOptions[] = {
    {"async", MountOptionKind::Flag, 0, MS_SYNCHRONOUS},
    {"atime", MountOptionKind::Flag, 0, MS_NOATIME},
    {"bind", MountOptionKind::Flag, MS_BIND, 0},
    {"defaults", MountOptionKind::Flag, 0, 0},
    {"dev", MountOptionKind::Flag, 0, MS_NODEV},
    {"diratime", MountOptionKind::Flag, 0, MS_NODIRATIME},
    {"dirsync", MountOptionKind::Flag, MS_DIRSYNC, 0},
    {"exec", MountOptionKind::Flag, 0, MS_NOEXEC},
    {"idmap", MountOptionKind::IdMap, 0, 0},
    {"iversion", MountOptionKind::Flag, MS_I_VERSION, 0},
    {"lazytime", MountOptionKind::Flag, MS_LAZYTIME, 0},
    {"loud", MountOptionKind::Flag, 0, MS_SILENT},
    {"mand", MountOptionKind::Flag, MS_MANDLOCK, 0},
    {"noatime", MountOptionKind::Flag, MS_NOATIME, MS_RELATIME | MS_STRICTATIME},
    {"nodev", MountOptionKind::Flag, MS_NODEV, 0},
    {"nodiratime", MountOptionKind::Flag, MS_NODIRATIME, 0},
    {"noexec", MountOptionKind::Flag, MS_NOEXEC, 0},
    {"noiversion", MountOptionKind::Flag, 0, MS_I_VERSION},
    {"nolazytime", MountOptionKind::Flag, 0, MS_LAZYTIME},
    {"nomand", MountOptionKind::Flag, 0, MS_MANDLOCK},
    {"norelatime", MountOptionKind::Flag, 0, MS_RELATIME},
    {"nostrictatime", MountOptionKind::Flag, 0, MS_STRICTATIME},
    {"nosuid", MountOptionKind::Flag, MS_NOSUID, 0},
    {"nosymfollow", MountOptionKind::Flag, MS_NOSYMFOLLOW, 0},
    {"private", MountOptionKind::Propagation, MS_PRIVATE, 0},
    {"ratime", MountOptionKind::Recursive, 0, MOUNT_ATTR__ATIME},
    {"rbind", MountOptionKind::Flag, MS_BIND | MS_REC, 0},
    {"rdev", MountOptionKind::Recursive, 0, MOUNT_ATTR_NODEV},
    {"rdiratime", MountOptionKind::Recursive, 0, MOUNT_ATTR_NODIRATIME},
    {"relatime", MountOptionKind::Flag, MS_RELATIME, MS_NOATIME | MS_STRICTATIME},
    {"remount", MountOptionKind::Flag, MS_REMOUNT, 0},
    {"rexec", MountOptionKind::Recursive, 0, MOUNT_ATTR_NOEXEC},
    {"ridmap", MountOptionKind::RIdMap, 0, 0},
    // mount_setattr(2): a change of the access time mode clears all of MOUNT_ATTR__ATIME and sets the new one; relatime is 0.
    {"rnoatime", MountOptionKind::Recursive, MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"rnodev", MountOptionKind::Recursive, MOUNT_ATTR_NODEV, 0},
    {"rnodiratime", MountOptionKind::Recursive, MOUNT_ATTR_NODIRATIME, 0},
    {"rnoexec", MountOptionKind::Recursive, MOUNT_ATTR_NOEXEC, 0},
    {"rnorelatime", MountOptionKind::Recursive, 0, MOUNT_ATTR__ATIME},
    {"rnostrictatime", MountOptionKind::Recursive, 0, MOUNT_ATTR__ATIME},
    {"rnosuid", MountOptionKind::Recursive, MOUNT_ATTR_NOSUID, 0},
    {"rnosymfollow", MountOptionKind::Recursive, MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"ro", MountOptionKind::Flag, MS_RDONLY, 0},
    {"rprivate", MountOptionKind::Propagation, MS_PRIVATE | MS_REC, 0},
    {"rrelatime", MountOptionKind::Recursive, MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"rro", MountOptionKind::Recursive, MOUNT_ATTR_RDONLY, 0},
    {"rrw", MountOptionKind::Recursive, 0, MOUNT_ATTR_RDONLY},
    {"rshared", MountOptionKind::Propagation, MS_SHARED | MS_REC, 0},
    {"rslave", MountOptionKind::Propagation, MS_SLAVE | MS_REC, 0},
    {"rstrictatime", MountOptionKind::Recursive, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"rsuid", MountOptionKind::Recursive, 0, MOUNT_ATTR_NOSUID},
    {"rsymfollow", MountOptionKind::Recursive, 0, MOUNT_ATTR_NOSYMFOLLOW},
    {"runbindable", MountOptionKind::Propagation, MS_UNBINDABLE | MS_REC, 0},
    {"rw", MountOptionKind::Flag, 0, MS_RDONLY},
    {"shared", MountOptionKind::Propagation, MS_SHARED, 0},
    {"silent", MountOptionKind::Flag, MS_SILENT, 0},
    {"slave", MountOptionKind::Propagation, MS_SLAVE, 0},
    {"strictatime", MountOptionKind::Flag, MS_STRICTATIME, MS_NOATIME | MS_RELATIME},
    {"suid", MountOptionKind::Flag, 0, MS_NOSUID},
    {"symfollow", MountOptionKind::Flag, 0, MS_NOSYMFOLLOW},
    {"sync", MountOptionKind::Flag, MS_SYNCHRONOUS, 0},
    {"tmpcopyup", MountOptionKind::TmpCopyUp, 0, 0},
    {"unbindable", MountOptionKind::Propagation, MS_UNBINDABLE, 0},
};

// The row of an option; nullptr for what is data for the file system.
constexpr const MountOption* find_mount_option(std::string_view name) {
  for (const MountOption& option : kMountOptions)
    if (option.name == name) return &option;
  return nullptr;
}

}  // namespace caisson::oci
