// What a File and an Inode answer where their kind has nothing better.
#include "kernel/vfs/file.h"

#include "kernel/event/async_notice.h"
#include "kernel/task/task.h"
#include "kernel/vfs/locks.h"
#include "kernel/vfs/notify.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

File::~File() {
  if (has_locks.load(std::memory_order_relaxed)) release_locks_of(*this);
  if (has_async.load(std::memory_order_relaxed)) release_async(*this);
  if ((flags() & O_PATH) == 0) notify(path_, (flags() & O_ACCMODE) != O_RDONLY ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
}
void File::closed_by(Task& task) { release_record_locks(*task.fds, *this); }
Result<size_t> File::read(Task&, IoBuffer&, off_t) { return Errno(EINVAL); }
Result<size_t> File::write(Task&, IoBuffer&, off_t) { return Errno(EINVAL); }
Result<off_t> File::size() {
  const struct statx stat = TRY(this->stat());
  return static_cast<off_t>(stat.stx_size);
}

Result<off_t> File::seek(off_t position, off_t offset, int whence) {
  if (!seekable()) return Errno(ESPIPE);
  off_t base = 0;
  switch (whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR:
      base = position;
      break;
    case SEEK_END:
      base = TRY(size());
      break;
    case SEEK_DATA:
    case SEEK_HOLE: {
      const off_t end = TRY(size());
      if (offset < 0 || offset >= end) return Errno(ENXIO);
      return whence == SEEK_DATA ? offset : end;
    }
    default:
      return Errno(EINVAL);
  }
  off_t result;
  if (__builtin_add_overflow(base, offset, &result)) return Errno(EOVERFLOW);
  if (result < 0) return Errno(EINVAL);
  return result;
}

Result<long> File::ioctl(Task&, unsigned, uint64_t) { return Errno(ENOTTY); }
Result<long> File::control(Task&, int, uint64_t) { return Errno(EINVAL); }
Result<MapSource> File::map(uint64_t, uint64_t, int, int) { return Errno(ENODEV); }
Result<void> File::read_dir(Task&, int64_t&, const DirSink&) { return Errno(ENOTDIR); }
Result<void> File::sync(bool) { return Errno(EINVAL); }
Result<void> File::truncate(Task&, off_t) { return Errno(EINVAL); }
Result<void> File::allocate(int, off_t, off_t) { return Errno(ENODEV); }
Result<struct statx> File::stat() {
  if (!path_) return Errno(EBADF);
  return path_.inode()->stat();
}
std::string File::description() const { return "anon_inode:[file]"; }

Result<InodeRef> Inode::lookup(Task&, std::string_view) { return Errno((type() & S_IFMT) == S_IFDIR ? ENOENT : ENOTDIR); }
Result<InodeRef> Inode::make(Task&, std::string_view, mode_t, dev_t) { return Errno(EPERM); }
Result<InodeRef> Inode::make_link(Task&, std::string_view, std::string_view) { return Errno(EPERM); }
Result<void> Inode::link(Task&, std::string_view, const InodeRef&) { return Errno(EPERM); }
Result<void> Inode::unlink(Task&, std::string_view) { return Errno(EPERM); }
Result<void> Inode::remove_folder(Task&, std::string_view) { return Errno(EPERM); }
Result<void> Inode::rename(Task&, std::string_view, Inode&, std::string_view, unsigned) { return Errno(EPERM); }
Result<FileRef> Inode::make_unnamed(Task&, const Path&, int, mode_t) { return Errno(EOPNOTSUPP); }
Result<std::string> Inode::read_link(Task&) { return Errno(EINVAL); }
Result<Path> Inode::follow(Task&) { return Path(); }
Result<void> Inode::set_attributes(Task&, const Attributes&) { return Errno(EPERM); }
Result<std::string> Inode::get_xattr(Task&, const char*) { return Errno(EOPNOTSUPP); }
Result<void> Inode::set_xattr(Task&, const char*, std::string_view, int) { return Errno(EOPNOTSUPP); }
Result<void> Inode::remove_xattr(Task&, const char*) { return Errno(EOPNOTSUPP); }
Result<std::string> Inode::list_xattr(Task&) { return std::string(); }

}  // namespace caisson::kernel
