#include "kernel/fs/common/node.h"

#include <dirent.h>
#include <sys/sysmacros.h>
#include <time.h>

#include <atomic>

#include "kernel/task/task.h"

namespace caisson::kernel {

timespec now_realtime() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return now;
}

NodeStat NodeStat::make(uint64_t inode, mode_t mode, uid_t uid, gid_t gid) {
  NodeStat node;
  node.inode = inode;
  node.mode = mode;
  node.uid = uid;
  node.gid = gid;
  node.atime = node.mtime = node.ctime = node.btime = now_realtime();
  return node;
}

namespace {

statx_timestamp to_statx_time(const timespec& time) {
  statx_timestamp result{};
  result.tv_sec = time.tv_sec;
  result.tv_nsec = static_cast<uint32_t>(time.tv_nsec);
  return result;
}

bool is_now(const Attributes& attributes) {
  const bool atime = (attributes.mask & STATX_ATIME) == 0 || attributes.atime.tv_nsec == UTIME_NOW;
  const bool mtime = (attributes.mask & STATX_MTIME) == 0 || attributes.mtime.tv_nsec == UTIME_NOW;
  return atime && mtime;
}

}  // namespace

struct statx to_statx(const FileSystem& fs, const NodeStat& node) {
  struct statx result {};
  result.stx_mask = STATX_BASIC_STATS | STATX_BTIME;
  result.stx_blksize = 4096;
  result.stx_nlink = node.links;
  result.stx_uid = node.uid;
  result.stx_gid = node.gid;
  result.stx_mode = static_cast<uint16_t>(node.mode);
  result.stx_ino = node.inode;
  result.stx_size = node.size;
  result.stx_blocks = node.blocks;
  result.stx_atime = to_statx_time(node.atime);
  result.stx_mtime = to_statx_time(node.mtime);
  result.stx_ctime = to_statx_time(node.ctime);
  result.stx_btime = to_statx_time(node.btime);
  result.stx_rdev_major = major(node.device);
  result.stx_rdev_minor = minor(node.device);
  result.stx_dev_major = 0;
  result.stx_dev_minor = fs.device;
  return result;
}

struct statfs plain_statfs(long magic) {
  struct statfs result {};
  result.f_type = magic;
  result.f_bsize = result.f_frsize = 4096;
  result.f_namelen = 255;
  return result;
}

Result<void> may_change(Task& task, const NodeStat& node, Attributes& attributes) {
  const Credentials& creds = *task.creds;
  const bool owner = creds.fsuid == node.uid;
  if ((attributes.mask & STATX_UID) != 0 && !creds.has_over(kCapChown, node.uid, node.gid) && !(owner && attributes.uid == node.uid))
    return Errno(EPERM);
  if ((attributes.mask & STATX_GID) != 0 && !creds.has_over(kCapChown, node.uid, node.gid) &&
      !(owner && (attributes.gid == node.gid || creds.in_group(attributes.gid))))
    return Errno(EPERM);
  if ((attributes.mask & STATX_MODE) != 0) {
    if (!owner && !creds.has_over(kCapFowner, node.uid, node.gid)) return Errno(EPERM);
    const gid_t group = (attributes.mask & STATX_GID) != 0 ? attributes.gid : node.gid;
    if (!creds.in_group(group) && !creds.has_over(kCapFsetid, node.uid, node.gid)) attributes.mode &= ~static_cast<mode_t>(S_ISGID);
  }
  // Times of now need the right to write only, which vfs has looked at.
  if ((attributes.mask & (STATX_ATIME | STATX_MTIME)) != 0 && !is_now(attributes) && !owner &&
      !creds.has_over(kCapFowner, node.uid, node.gid))
    return Errno(EPERM);
  return {};
}

void change(NodeStat& node, const Attributes& attributes) {
  const timespec now = now_realtime();
  if ((attributes.mask & STATX_UID) != 0) node.uid = attributes.uid;
  if ((attributes.mask & STATX_GID) != 0) node.gid = attributes.gid;
  if ((attributes.mask & (STATX_UID | STATX_GID)) != 0 && !S_ISDIR(node.mode)) {
    node.mode &= ~static_cast<mode_t>(S_ISUID);
    if ((node.mode & S_IXGRP) != 0) node.mode &= ~static_cast<mode_t>(S_ISGID);
  }
  if ((attributes.mask & STATX_MODE) != 0) node.mode = (node.mode & S_IFMT) | (attributes.mode & 07777);
  if ((attributes.mask & STATX_ATIME) != 0) node.atime = attributes.atime.tv_nsec == UTIME_NOW ? now : attributes.atime;
  if ((attributes.mask & STATX_MTIME) != 0) node.mtime = attributes.mtime.tv_nsec == UTIME_NOW ? now : attributes.mtime;
  node.ctime = now;
}

bool emit_dots(const File& folder, int64_t& position, const DirSink& sink) {
  if (position < 0) position = 0;
  const DentryRef dentry = folder.path().dentry;
  const auto number = [](const DentryRef& of) -> uint64_t {
    if (!of || !of->inode()) return 1;
    const auto stat = of->inode()->stat();
    return stat ? stat->stx_ino : 1;
  };
  while (position < 2) {
    DirEntry entry;
    entry.name = position == 0 ? "." : "..";
    const DentryRef parent = dentry ? dentry->parent() : nullptr;
    entry.inode = number(position == 1 && parent ? parent : dentry);
    entry.type = DT_DIR;
    entry.next = position + 1;
    if (!sink(entry)) return false;
    ++position;
  }
  return true;
}

unsigned char entry_type(mode_t mode) { return static_cast<unsigned char>((mode & S_IFMT) >> 12); }

}  // namespace caisson::kernel
