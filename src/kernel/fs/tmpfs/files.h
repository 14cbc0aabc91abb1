// Open files of a tmpfs.
#pragma once

#include "kernel/fs/tmpfs/tmpfs.h"
#include "kernel/vfs/file.h"

namespace caisson::kernel {

class TmpfsFile : public File {
 public:
  TmpfsFile(std::shared_ptr<TmpfsRegular> inode, Path path, int flags) : File(std::move(path), flags), inode_(std::move(inode)) {}
  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override;
  Result<size_t> write(Task& task, IoBuffer& buffer, off_t offset) override;
  Result<off_t> size() override { return inode_->bytes.size(); }
  bool seekable() const override { return true; }
  Result<off_t> seek(off_t position, off_t offset, int whence) override;
  Result<MapSource> map(uint64_t offset, uint64_t length, int prot, int flags) override;
  Result<void> sync(bool) override { return {}; }
  Result<void> truncate(Task& task, off_t size) override;
  Result<void> allocate(int mode, off_t offset, off_t length) override;
  Result<struct statx> stat() override { return inode_->stat(); }

 private:
  std::shared_ptr<TmpfsRegular> inode_;
};

class TmpfsFolderFile : public File {
 public:
  TmpfsFolderFile(std::shared_ptr<TmpfsFolder> inode, Path path, int flags) : File(std::move(path), flags), inode_(std::move(inode)) {}
  Result<size_t> read(Task&, IoBuffer&, off_t) override { return Errno(EISDIR); }
  bool seekable() const override { return true; }
  Result<void> read_dir(Task& task, int64_t& position, const DirSink& sink) override;
  Result<void> sync(bool) override { return {}; }
  Result<struct statx> stat() override { return inode_->stat(); }

 private:
  std::shared_ptr<TmpfsFolder> inode_;
};

}  // namespace caisson::kernel
