// Open files of an overlay.
#include <dirent.h>

#include <optional>
#include <utility>

#include "kernel/fs/overlay/overlay.h"
#include "kernel/task/task.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

class OverlayFile : public File {
 public:
  OverlayFile(std::shared_ptr<OverlayInode> inode, FileRef real, bool is_upper, Path path, int flags)
      : File(std::move(path), flags), inode_(std::move(inode)), real_(std::move(real)), is_upper_(is_upper) {}

  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override { return TRY(real())->read(task, buffer, offset); }
  Result<size_t> write(Task& task, IoBuffer& buffer, off_t offset) override { return TRY(real())->write(task, buffer, offset); }
  Result<off_t> size() override { return TRY(real())->size(); }
  bool seekable() const override { return true; }
  Result<off_t> seek(off_t position, off_t offset, int whence) override { return TRY(real())->seek(position, offset, whence); }
  Result<MapSource> map(uint64_t offset, uint64_t length, int prot, int flags) override {
    return TRY(real())->map(offset, length, prot, flags);
  }
  Result<void> sync(bool data_only) override { return TRY(real())->sync(data_only); }
  Result<void> truncate(Task& task, off_t size) override { return TRY(real())->truncate(task, size); }
  Result<void> allocate(int mode, off_t offset, off_t length) override { return TRY(real())->allocate(mode, offset, length); }
  Result<struct statx> stat() override { return inode_->stat(); }
  Result<long> ioctl(Task& task, unsigned command, uint64_t argument) override { return TRY(real())->ioctl(task, command, argument); }
  int host_fd() const override {
    std::lock_guard guard(lock_);
    return real_->host_fd();
  }
  void flags_changed() override {
    std::lock_guard guard(lock_);
    if (real_) real_->set_flags(flags());
  }

 private:
  // What was opened below before it was copied up is opened again above: who reads sees what others write. (What is mapped stays below.)
  Result<FileRef> real() {
    std::lock_guard guard(lock_);
    if (!is_upper_) {
      if (const InodeRef upper = inode_->upper()) {
        FileRef again = TRY(open_real(inode_->overlay(), upper, flags()));
        replaced_ = std::exchange(real_, std::move(again));  // its descriptor may be in use: it is closed with this one
        is_upper_ = true;
      }
    }
    return real_;
  }

  std::shared_ptr<OverlayInode> inode_;
  mutable std::mutex lock_;
  FileRef real_, replaced_;
  bool is_upper_;
};

class OverlayFolderFile : public File {
 public:
  OverlayFolderFile(std::shared_ptr<OverlayFolder> inode, Path path, int flags) : File(std::move(path), flags), inode_(std::move(inode)) {}
  Result<size_t> read(Task&, IoBuffer&, off_t) override { return Errno(EISDIR); }
  bool seekable() const override { return true; }
  Result<void> sync(bool) override { return {}; }
  Result<struct statx> stat() override { return inode_->stat(); }

  // The layers are read once, when a listing begins: position n is the n-th name.
  Result<void> read_dir(Task&, int64_t& position, const DirSink& sink) override {
    if (position <= 0 || !listed_) {
      std::shared_lock tree(inode_->overlay().tree);
      listed_ = TRY(inode_->list());
    }
    if (!emit_dots(*this, position, sink)) return {};
    while (static_cast<uint64_t>(position - 2) < listed_->size()) {
      const OverlayFolder::Listed& entry = (*listed_)[static_cast<size_t>(position - 2)];
      if (!sink({entry.name, entry.inode, entry.type, position + 1})) return {};
      ++position;
    }
    return {};
  }

 private:
  std::shared_ptr<OverlayFolder> inode_;
  std::optional<std::vector<OverlayFolder::Listed>> listed_;  // under position_lock
};

}  // namespace

FileRef make_overlay_file(std::shared_ptr<OverlayInode> inode, FileRef real, bool is_upper, Path path, int flags) {
  return std::make_shared<OverlayFile>(std::move(inode), std::move(real), is_upper, std::move(path), flags);
}

FileRef make_overlay_folder_file(std::shared_ptr<OverlayFolder> inode, Path path, int flags) {
  return std::make_shared<OverlayFolderFile>(std::move(inode), std::move(path), flags);
}

Result<FileRef> open_real(const OverlayFileSystem& fs, const InodeRef& real, int flags) {
  // No mount: the layer's may be unmounted meanwhile.
  const Path path{nullptr, std::make_shared<Dentry>("", nullptr, real)};
  const int access = flags & O_ACCMODE;
  const int mode = (access != O_WRONLY ? R_OK : 0) | (access != O_RDONLY || (flags & O_TRUNC) != 0 ? W_OK : 0);
  TRY(permission(fs.mounter(), *real, mode));
  return real->open(fs.mounter(), path, flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW | kOpenTrusted));
}

Result<void> list_real(const OverlayFileSystem& fs, const InodeRef& real, const std::function<void(const DirEntry&)>& entry) {
  const FileRef folder = TRY(open_real(fs, real, O_RDONLY | O_DIRECTORY));
  int64_t position = 0;
  return folder->read_dir(fs.mounter(), position, [&](const DirEntry& each) {
    if (each.name != "." && each.name != "..") entry(each);
    return true;
  });
}

}  // namespace caisson::kernel
