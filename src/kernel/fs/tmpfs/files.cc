#include "kernel/fs/tmpfs/files.h"

#include <sys/mman.h>

#include "kernel/task/task.h"

namespace caisson::kernel {

Result<struct statx> TmpfsRegular::stat() {
  const off_t size = bytes.size();
  const uint64_t blocks = bytes.blocks();
  std::lock_guard guard(tmpfs.lock);
  NodeStat now = node;
  now.size = static_cast<uint64_t>(size);
  now.blocks = blocks;
  return to_statx(tmpfs, now);
}

Result<void> TmpfsRegular::set_attributes(Task& task, const Attributes& attributes) {
  if ((attributes.mask & STATX_SIZE) != 0) {
    TRY(bytes.resize(attributes.size));
    written(&task);
  }
  return TmpfsInode::set_attributes(task, attributes);
}

void TmpfsRegular::written(Task* task) {
  std::lock_guard guard(tmpfs.lock);
  node.mtime = node.ctime = now_realtime();
  drop_capabilities_locked();
  if ((node.mode & (S_ISUID | S_ISGID)) == 0 || (task != nullptr && task->creds->has(kCapFsetid))) return;
  node.mode &= ~static_cast<mode_t>(S_ISUID);
  if ((node.mode & S_IXGRP) != 0) node.mode &= ~static_cast<mode_t>(S_ISGID);
}

// As relatime has it: not on every read.
void TmpfsRegular::accessed() {
  std::lock_guard guard(tmpfs.lock);
  const timespec now = now_realtime();
  const bool older =
      node.atime.tv_sec < node.mtime.tv_sec || (node.atime.tv_sec == node.mtime.tv_sec && node.atime.tv_nsec <= node.mtime.tv_nsec);
  if (older || now.tv_sec - node.atime.tv_sec >= 24 * 3600) node.atime = now;
}

Result<FileRef> TmpfsRegular::open(Task& task, const Path& path, int flags) {
  if ((flags & O_TRUNC) != 0 && (flags & O_PATH) == 0) {
    TRY(bytes.resize(0));
    written(&task);
  }
  return FileRef(std::make_shared<TmpfsFile>(std::static_pointer_cast<TmpfsRegular>(path.inode()), path, flags));
}

Result<size_t> TmpfsFile::read(Task&, IoBuffer& buffer, off_t offset) {
  Result<size_t> moved = inode_->bytes.read(buffer, offset);
  if (moved && *moved > 0 && (flags() & O_NOATIME) == 0 && path().mount && (path().mount->flags & 1024 /* MS_NOATIME */) == 0)
    inode_->accessed();
  return moved;
}

Result<size_t> TmpfsFile::write(Task& task, IoBuffer& buffer, off_t offset) {
  Result<size_t> moved = inode_->bytes.write(buffer, offset);
  if (moved && *moved > 0) inode_->written(&task);
  return moved;
}

Result<off_t> TmpfsFile::seek(off_t position, off_t offset, int whence) {
  if (whence == SEEK_DATA || whence == SEEK_HOLE) return inode_->bytes.seek_data(offset, whence);
  return File::seek(position, offset, whence);
}

Result<MapSource> TmpfsFile::map(uint64_t offset, uint64_t, int, int flags) {
  const bool shared = (flags & MAP_TYPE) != MAP_PRIVATE;
  MapSource source;
  source.host_fd = TRY(inode_->bytes.host_fd(shared && writable()));
  source.offset = offset;
  return source;
}

Result<void> TmpfsFile::truncate(Task& task, off_t size) {
  TRY(inode_->bytes.resize(size));
  inode_->written(&task);
  return {};
}

Result<void> TmpfsFile::allocate(int mode, off_t offset, off_t length) {
  TRY(inode_->bytes.allocate(mode, offset, length));
  inode_->written(nullptr);
  return {};
}

Result<void> TmpfsFolderFile::read_dir(Task&, int64_t& position, const DirSink& sink) {
  if (!emit_dots(*this, position, sink)) return {};
  for (;;) {
    // In pieces, so that the file system's lock is not held while the sink works.
    const auto listed = inode_->list(position, 128);
    if (listed.empty()) return {};
    for (const TmpfsFolder::Listed& each : listed) {
      if (!sink({each.name, each.inode, each.type, each.next})) return {};
      position = each.next;
    }
  }
}

}  // namespace caisson::kernel
