// Reading and writing.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/uio.h>

#include <algorithm>

#include "kernel/errno.h"
#include "kernel/event/async_notice.h"
#include "kernel/signal/send.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"
#include "kernel/vfs/blocking.h"
#include "kernel/vfs/notify.h"

namespace caisson::kernel {
namespace {

constexpr off_t kHere = -1;  // at the file's own position

Result<size_t> transfer(Task& task, File& file, IoBuffer& buffer, off_t offset, bool writing) {
  const auto once = [&](off_t at) {
    Result<size_t> done = writing ? file.write(task, buffer, at) : file.read(task, buffer, at);
    if (done && *done > 0) notify(file.path(), writing ? IN_MODIFY : IN_ACCESS);
    return done;
  };
  if (!file.seekable()) {
    return blocking_op(task, file, writing ? POLLOUT : POLLIN, [&] { return once(0); });
  }
  if (offset != kHere) return once(offset);
  std::lock_guard guard(file.position_lock);
  off_t at = file.position;
  if (writing && (file.flags() & O_APPEND) != 0) at = TRY(file.size());
  Result<size_t> done = once(at);
  if (done) file.position = at + static_cast<off_t>(*done);
  return done;
}

// A pipe or a socket that takes less than all is written to until all is gone (write(2), blocking).
Result<size_t> write_all(Task& task, File& file, IoBuffer& buffer, off_t offset) {
  size_t done = 0;
  for (;;) {
    Result<size_t> now = transfer(task, file, buffer, offset, true);
    if (!now) return done > 0 ? Result<size_t>(done) : now;
    done += *now;
    if (buffer.empty() || file.seekable() || *now == 0 || file.nonblocking()) return done;
  }
}

Result<long> finish(Task& task, Result<size_t> done, bool writing) {
  if (done) return static_cast<long>(*done);
  if (writing && done.error() == Errno(EPIPE)) {
    std::lock_guard guard(task.kernel.tasks);
    send_to_task_locked(task, user_signal(SIGPIPE, &task));
  }
  return done.error();
}

Result<FileRef> file_for(Task& task, Fd fd, bool writing) {
  FileRef file = TRY(task.fds->get_usable(number(fd)));
  if (writing ? !file->writable() : !file->readable()) return Errno(EBADF);
  return file;
}

Result<void> check_offset(const File& file, off_t offset) {
  if (!file.seekable()) return Errno(ESPIPE);
  if (offset < 0) return Errno(EINVAL);
  return {};
}

Errno too_large(Task& task) {
  std::lock_guard guard(task.kernel.tasks);
  send_to_task_locked(task, user_signal(SIGXFSZ, &task));
  return Errno(EFBIG);
}

// RLIMIT_FSIZE: what does not fit is cut off; nothing fits: SIGXFSZ and EFBIG.
Result<void> apply_size_limit(Task& task, File& file, IoBuffer& buffer, off_t offset) {
  const rlim_t limit = task.group->limit(RLIMIT_FSIZE).rlim_cur;
  if (limit == RLIM_INFINITY || !file.seekable()) return {};
  off_t at = offset;
  if (at == kHere) at = (file.flags() & O_APPEND) != 0 ? TRY(file.size()) : file.position;
  if (static_cast<rlim_t>(at) >= limit && buffer.left() > 0) return too_large(task);
  buffer.limit(limit - static_cast<rlim_t>(at));
  return {};
}

Result<long> do_read(Task& task, Fd fd, IoBuffer buffer, off_t offset) {
  const FileRef file = TRY(file_for(task, fd, false));
  if (offset != kHere) TRY(check_offset(*file, offset));
  return finish(task, transfer(task, *file, buffer, offset, false), false);
}

Result<long> do_write(Task& task, Fd fd, IoBuffer buffer, off_t offset) {
  const FileRef file = TRY(file_for(task, fd, true));
  if (offset != kHere) TRY(check_offset(*file, offset));
  TRY(apply_size_limit(task, *file, buffer, offset));
  return finish(task, write_all(task, *file, buffer, offset), true);
}

Result<long> sys_read(Task& task, Fd fd, UserPtr<void> to, unsigned long size) {
  return do_read(task, fd, task.buffer(to.address(), size), kHere);
}
Result<long> sys_write(Task& task, Fd fd, UserPtr<const void> from, unsigned long size) {
  return do_write(task, fd, task.buffer(from.address(), size), kHere);
}
Result<long> sys_pread64(Task& task, Fd fd, UserPtr<void> to, unsigned long size, long offset) {
  if (offset < 0) return Errno(EINVAL);
  return do_read(task, fd, task.buffer(to.address(), size), offset);
}
Result<long> sys_pwrite64(Task& task, Fd fd, UserPtr<const void> from, unsigned long size, long offset) {
  if (offset < 0) return Errno(EINVAL);
  return do_write(task, fd, task.buffer(from.address(), size), offset);
}
Result<long> sys_readv(Task& task, Fd fd, UserPtr<const iovec> vectors, int count) {
  return do_read(task, fd, TRY(task.read_io_vectors(vectors.address(), count)), kHere);
}
Result<long> sys_writev(Task& task, Fd fd, UserPtr<const iovec> vectors, int count) {
  return do_write(task, fd, TRY(task.read_io_vectors(vectors.address(), count)), kHere);
}
Result<long> sys_preadv(Task& task, Fd fd, UserPtr<const iovec> vectors, int count, long offset) {
  if (offset < 0) return Errno(EINVAL);
  return do_read(task, fd, TRY(task.read_io_vectors(vectors.address(), count)), offset);
}
Result<long> sys_pwritev(Task& task, Fd fd, UserPtr<const iovec> vectors, int count, long offset) {
  if (offset < 0) return Errno(EINVAL);
  return do_write(task, fd, TRY(task.read_io_vectors(vectors.address(), count)), offset);
}
Result<long> sys_preadv2(Task& task, Fd fd, UserPtr<const iovec> vectors, int count, long offset, unsigned long, int flags) {
  if ((flags & ~(RWF_HIPRI)) != 0) return Errno(EOPNOTSUPP);
  if (offset < -1) return Errno(EINVAL);
  return do_read(task, fd, TRY(task.read_io_vectors(vectors.address(), count)), offset);
}
Result<long> sys_pwritev2(Task& task, Fd fd, UserPtr<const iovec> vectors, int count, long offset, unsigned long, int flags) {
  if ((flags & ~(RWF_HIPRI)) != 0) return Errno(EOPNOTSUPP);
  if (offset < -1) return Errno(EINVAL);
  return do_write(task, fd, TRY(task.read_io_vectors(vectors.address(), count)), offset);
}

Result<long> sys_lseek(Task& task, Fd fd, long offset, int whence) {
  const FileRef file = TRY(task.fds->get_usable(number(fd)));
  std::lock_guard guard(file->position_lock);
  const off_t position = TRY(file->seek(file->position, offset, whence));
  file->position = position;
  return position;
}

// Fills a getdents buffer of kernel memory, then copies it out in one go.
template <typename Pack>
Result<long> list_folder(Task& task, Fd fd, uint64_t to, unsigned size, Pack&& pack) {
  const FileRef file = TRY(task.fds->get_usable(number(fd)));
  std::vector<char> room;
  room.reserve(std::min(size, 65536U));
  const size_t most = room.capacity();
  bool too_small = false;
  {
    std::lock_guard guard(file->position_lock);
    int64_t position = file->position;
    TRY(file->read_dir(task, position, [&](const DirEntry& entry) {
      const bool fits = pack(room, most, entry);
      too_small = !fits && room.empty();
      return fits;
    }));
    file->position = position;
  }
  if (too_small) return Errno(EINVAL);
  notify(file->path(), IN_ACCESS);
  TRY(task.write_bytes(to, room.data(), room.size()));
  return static_cast<long>(room.size());
}

template <typename T>
void append(std::vector<char>& room, T value) {
  const char* bytes = reinterpret_cast<const char*>(&value);
  room.insert(room.end(), bytes, bytes + sizeof value);
}

Result<long> sys_getdents64(Task& task, Fd fd, UserPtr<void> to, unsigned size) {
  return list_folder(task, fd, to.address(), size, [](std::vector<char>& room, size_t most, const DirEntry& entry) {
    const size_t length = (19 + entry.name.size() + 1 + 7) & ~size_t{7};
    if (room.size() + length > most) return false;
    const size_t end = room.size() + length;
    append(room, entry.inode);
    append(room, entry.next);
    append(room, static_cast<uint16_t>(length));
    append(room, entry.type);
    room.insert(room.end(), entry.name.begin(), entry.name.end());
    room.resize(end, '\0');
    return true;
  });
}

Result<long> sys_getdents(Task& task, Fd fd, UserPtr<void> to, unsigned size) {
  return list_folder(task, fd, to.address(), size, [](std::vector<char>& room, size_t most, const DirEntry& entry) {
    const size_t length = (18 + entry.name.size() + 2 + 7) & ~size_t{7};
    if (room.size() + length > most) return false;
    const size_t end = room.size() + length;
    append(room, entry.inode);
    append(room, entry.next);
    append(room, static_cast<uint16_t>(length));
    room.insert(room.end(), entry.name.begin(), entry.name.end());
    room.resize(end, '\0');
    room[end - 1] = static_cast<char>(entry.type);
    return true;
  });
}

Result<long> do_sync(Task& task, Fd fd, bool data_only) {
  TRY(TRY(task.fds->get_usable(number(fd)))->sync(data_only));
  return 0L;
}
Result<long> sys_fsync(Task& task, Fd fd) { return do_sync(task, fd, false); }
Result<long> sys_fdatasync(Task& task, Fd fd) { return do_sync(task, fd, true); }
// The whole machine's file systems are not one container's to flush; files are by fsync.
Result<long> sys_sync(Task&) { return 0L; }
Result<long> sys_syncfs(Task& task, Fd fd) {
  TRY(task.fds->get_usable(number(fd)));
  return 0L;
}

Result<long> sys_sync_file_range(Task& task, Fd fd, long offset, long length, unsigned flags) {
  constexpr unsigned kKnown = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  const FileRef file = TRY(task.fds->get_usable(number(fd)));
  long end = 0;
  if ((flags & ~kKnown) != 0 || offset < 0 || length < 0 || __builtin_add_overflow(offset, length, &end)) return Errno(EINVAL);
  const struct statx stat = TRY(file->stat());
  const mode_t type = stat.stx_mode & S_IFMT;
  if (type != S_IFREG && type != S_IFDIR && type != S_IFBLK) return Errno(ESPIPE);
  // What has no descriptor of the host's is in memory alone.
  if (file->host_fd() >= 0) TRY(host_result(::sync_file_range(file->host_fd(), offset, length, flags)));
  return 0L;
}

Result<long> sys_ftruncate(Task& task, Fd fd, long size) {
  if (size < 0) return Errno(EINVAL);
  const FileRef file = TRY(task.fds->get_usable(number(fd)));
  if (!file->writable()) return Errno(EINVAL);
  if (file->seekable()) TRY(check_new_size(task, TRY(file->size()), size));
  TRY(file->truncate(task, size));
  notify(file->path(), IN_MODIFY);
  return 0L;
}

Result<long> sys_fallocate(Task& task, Fd fd, int mode, long offset, long length) {
  if (offset < 0 || length <= 0) return Errno(EINVAL);
  const FileRef file = TRY(task.fds->get_usable(number(fd)));
  if (!file->writable()) return Errno(EBADF);
  off_t end = 0;
  if (__builtin_add_overflow(offset, length, &end)) return Errno(EFBIG);
  if (mode == 0 && file->seekable()) TRY(check_new_size(task, TRY(file->size()), end));
  TRY(file->allocate(mode, offset, length));
  notify(file->path(), IN_MODIFY);
  return 0L;
}

Result<long> sys_fadvise64(Task& task, Fd fd, long, long, int advice) {
  const FileRef file = TRY(task.fds->get_usable(number(fd)));
  if (!file->seekable() && file->host_fd() < 0) return Errno(ESPIPE);
  if (advice < 0 || advice > 5) return Errno(EINVAL);
  return 0L;
}
Result<long> sys_readahead(Task& task, Fd fd, long, unsigned long) {
  TRY(file_for(task, fd, false));
  return 0L;
}

Result<long> sys_ioctl(Task& task, Fd fd, unsigned command, unsigned long argument) {
  constexpr unsigned kFioClex = 0x5451, kFioNclex = 0x5450, kFionbio = 0x5421, kFioAsync = 0x5452;
  const FileRef file = TRY(task.fds->get_usable(number(fd)));
  switch (command) {
    case kFioClex:
      TRY(task.fds->set_close_on_exec(number(fd), true));
      return 0L;
    case kFioNclex:
      TRY(task.fds->set_close_on_exec(number(fd), false));
      return 0L;
    case kFionbio: {
      const int on = TRY(task.read(UserPtr<int>(argument)));
      file->set_flags(on != 0 ? file->flags() | O_NONBLOCK : file->flags() & ~O_NONBLOCK);
      return 0L;
    }
    case kFioAsync: {
      const int on = TRY(task.read(UserPtr<int>(argument)));
      if (!can_notify(*file)) return Errno(ENOTTY);
      set_async(file, number(fd), on != 0);
      return 0L;
    }
    default:
      return file->ioctl(task, command, argument);
  }
}

}  // namespace

Result<long> transfer_at(Task& task, Fd fd, IoBuffer buffer, off_t offset, bool writes) {
  const FileRef file = TRY(file_for(task, fd, writes));
  if (file->seekable() && offset < 0) return Errno(EINVAL);
  const off_t at = file->seekable() ? offset : kHere;
  return writes ? do_write(task, fd, std::move(buffer), at) : do_read(task, fd, std::move(buffer), at);
}

Result<void> check_new_size(Task& task, off_t now, off_t wanted) {
  const rlim_t limit = task.group->limit(RLIMIT_FSIZE).rlim_cur;
  if (limit == RLIM_INFINITY || wanted <= now || static_cast<rlim_t>(wanted) <= limit) return {};
  return too_large(task);
}

std::span<const SyscallRow> io_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(read, 0, Full, ""),
      SYSCALL(write, 1, Full, ""),
      SYSCALL(lseek, 8, Full, ""),
      SYSCALL(ioctl, 16, Partial, "what files, terminals and sockets commonly need"),
      SYSCALL(pread64, 17, Full, ""),
      SYSCALL(pwrite64, 18, Full, ""),
      SYSCALL(readv, 19, Full, ""),
      SYSCALL(writev, 20, Full, ""),
      SYSCALL(fsync, 74, Full, ""),
      SYSCALL(fdatasync, 75, Full, ""),
      SYSCALL(ftruncate, 77, Full, ""),
      SYSCALL(getdents, 78, Full, ""),
      SYSCALL(sync, 162, Partial, "does nothing"),
      SYSCALL(readahead, 187, Partial, "does nothing"),
      SYSCALL(getdents64, 217, Full, ""),
      SYSCALL(fadvise64, 221, Partial, "does nothing"),
      SYSCALL(sync_file_range, 277, Full, ""),
      SYSCALL(fallocate, 285, Full, ""),
      SYSCALL(preadv, 295, Full, ""),
      SYSCALL(pwritev, 296, Full, ""),
      SYSCALL(syncfs, 306, Partial, "does nothing"),
      SYSCALL(preadv2, 327, Partial, "no flags"),
      SYSCALL(pwritev2, 328, Partial, "no flags"),
  };
  return rows;
}

}  // namespace caisson::kernel
