// Path walk: from text to a Path, with mounts, links and permissions, as path_resolution(7) has it.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "kernel/vfs/path.h"

namespace caisson::kernel {

class Task;

// Flags of a walk.
inline constexpr unsigned kWalkNoFollow = 1;   // do not follow a link in the last place
inline constexpr unsigned kWalkFolder = 2;     // the last place must be a folder (ENOTDIR)
inline constexpr unsigned kWalkEmptyPath = 4;  // "" is the starting place (AT_EMPTY_PATH)
inline constexpr unsigned kWalkNoMagicLinks = 8;

// The starting place for a relative path: AT_FDCWD or a descriptor. EBADF, ENOTDIR.
Result<Path> walk_start(Task& task, int dirfd, std::string_view path);

// What a path stands for. ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG...
Result<Path> walk(Task& task, int dirfd, std::string_view path, unsigned flags = 0);
Result<Path> walk_from(Task& task, const Path& start, std::string_view path, unsigned flags = 0);

// For calls that make or remove a name: the folder and the last component. The name may be "." or ".." or empty ("/"): the caller refuses
// it with the errno of its call.
struct LastName {
  Path folder;
  std::string name;
  bool trailing_slash = false;
};
Result<LastName> walk_to_last(Task& task, int dirfd, std::string_view path);

// One name in a folder: crosses a mount on it; ENOENT if there is none.
Result<Path> walk_child(Task& task, const Path& folder, std::string_view name);

// The text of a place as the task sees it: from its root; "(unreachable)..." outside; with " (deleted)" where the name is gone.
std::string path_text(Task& task, const Path& path);

// May the task do this (R_OK | W_OK | X_OK) to the inode? By mode bits and capabilities.
Result<void> permission(Task& task, Inode& inode, int mode);
// Whether the task, which may write to the folder, may take this name's file out of it: from a sticky one only its owner may, and the
// folder's (unlink(2), rename(2)). EPERM.
Result<void> may_take_out(Task& task, Inode& folder, Inode& file);
// Whether the task may give the file another name: link(2), and /proc/sys/fs/protected_hardlinks as distributions set it. EPERM.
Result<void> may_link(Task& task, Inode& file);

// open(2) and all that it stands for.
Result<FileRef> open_path(Task& task, int dirfd, std::string_view path, int flags, mode_t mode);
// An inode of a mount as a File: O_TRUNC, permissions and flags are looked at here.
Result<FileRef> open_place(Task& task, const Path& path, int flags);

}  // namespace caisson::kernel
