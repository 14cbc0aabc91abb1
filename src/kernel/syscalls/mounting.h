// What mount(2) and the newer calls for mounts (open_tree(2), fsopen(2)) share.
#pragma once

#include <sys/mount.h>
#include <sys/stat.h>

#include "kernel/task/task.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

// What can be changed of a mount, and stays with it.
inline constexpr unsigned long kMountFlags =
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_MANDLOCK | MS_DIRSYNC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME;
inline constexpr unsigned long kPropagation = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;

// Mounts are changed by who administers the user namespace that they belong to. EPERM.
inline Result<void> may_mount(const Task& task) {
  if (!task.creds->has_in(*task.spaces->mounts->owner, kCapSysAdmin)) return Errno(EPERM);
  return {};
}

inline bool is_folder(const Path& path) { return S_ISDIR(path.inode()->type()); }
inline bool is_mount_root(const Path& path) { return path.dentry == path.mount->root; }

}  // namespace caisson::kernel
