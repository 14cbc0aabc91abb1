// Telling watches (inotify(7)) of what is done to files of the kernel's own file systems. What happens to files of host folders the host
// tells (event/watches.h): there others than this kernel change things, too. A file is told of by one of the two only, so nothing comes
// twice.
//
// Nobody watches: one look at a counter. No lock of a file system, a folder or a mount is held by who calls.
#pragma once

#include <sys/inotify.h>

#include <atomic>
#include <string_view>

#include "kernel/vfs/path.h"

namespace caisson::kernel {

// How many watches there are on files of the kernel's own file systems.
extern std::atomic<uint32_t> g_own_watches;
inline bool anybody_watches() { return g_own_watches.load(std::memory_order_relaxed) != 0; }

void notify_watchers(const Path& path, uint32_t events);
void notify_watchers(Inode& inode, uint32_t events, std::string_view name, uint32_t cookie);
void notify_gone(Inode& inode);
void notify_unmounted(const FileSystem& fs);

// Something happened to what is at `path` (IN_OPEN, IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_CLOSE_*): its watches hear of it, and with its
// name those of the folder it is in.
inline void notify(const Path& path, uint32_t events) {
  if (anybody_watches() && path.dentry) notify_watchers(path, events);
}
// A name in a folder came or went (IN_CREATE, IN_DELETE, IN_MOVED_*; with IN_ISDIR).
inline void notify_entry(const Path& folder, uint32_t events, std::string_view name, uint32_t cookie = 0) {
  if (anybody_watches()) notify_watchers(*folder.inode(), events, name, cookie);
}
// Something about the file itself, which its folder is not told (IN_MOVE_SELF, IN_ATTRIB by another link).
inline void notify_self(const Path& path, uint32_t events) {
  if (anybody_watches()) notify_watchers(*path.inode(), events, {}, 0);
}
// A number that joins IN_MOVED_FROM and IN_MOVED_TO.
uint32_t next_move_cookie();

inline uint32_t folder_bit(mode_t type) { return S_ISDIR(type) ? static_cast<uint32_t>(IN_ISDIR) : 0; }

}  // namespace caisson::kernel
