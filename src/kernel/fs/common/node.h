// What inodes of kernel file systems (tmpfs, proc, sysfs, devpts...) have in common: stat's members, who may change them, listing a folder.
#pragma once

#include <string>

#include "kernel/vfs/file.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

// CLOCK_REALTIME now.
timespec now_realtime();

// The members of stat(2) that such an inode keeps.
struct NodeStat {
  uint64_t inode = 0;
  mode_t mode = 0;  // with its type
  uid_t uid = 0;
  gid_t gid = 0;
  uint32_t links = 1;
  uint64_t size = 0;
  uint64_t blocks = 0;  // of 512 bytes
  dev_t device = 0;     // of a device node
  timespec atime{}, mtime{}, ctime{}, btime{};

  // A new one, with all times now.
  static NodeStat make(uint64_t inode, mode_t mode, uid_t uid, gid_t gid);
};
// What statfs(2) says of a file system without any blocks; `magic`: its f_type.
struct statfs plain_statfs(long magic);
struct statx to_statx(const FileSystem& fs, const NodeStat& node);

// May the task make these changes (chmod(2), chown(2), utimensat(2))? EPERM. Takes bits out of `attributes.mode` that the task may not set.
Result<void> may_change(Task& task, const NodeStat& node, Attributes& attributes);
// Makes them; the size is the caller's. A changed owner takes set-id bits away. Sets ctime.
void change(NodeStat& node, const Attributes& attributes);

// For File::read_dir of folders whose own entries start at position 2: gives "." and "..". False: no room.
bool emit_dots(const File& folder, int64_t& position, const DirSink& sink);
unsigned char entry_type(mode_t mode);  // DT_* of a mode

}  // namespace caisson::kernel
