#include "kernel/fs/host/host_file.h"

#include <dirent.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <array>

#include "kernel/fs/host/identity.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

// What a file that was opened with O_DIRECT asks of addresses at most: a device's logical block (open(2), NOTES).
constexpr size_t kAlignment = 4096;
// The larger one is what the allocator has at hand: it would map 128 KiB and more anew each time, and every page of it be faulted in.
constexpr size_t kSmall = 16384, kLarge = 64 * 1024;

// Room for one transfer, or for a piece of it: on the stack for small ones.
template <typename Body>
Result<size_t> with_room(size_t wanted, Body&& body) {
  if (wanted <= kSmall) {
    alignas(kAlignment) char room[kSmall];
    return body(room, sizeof room);
  }
  const size_t size = std::min(kLarge, (wanted + kAlignment - 1) & ~(kAlignment - 1));
  const std::unique_ptr<char, decltype(&free)> room(static_cast<char*>(aligned_alloc(kAlignment, size)), &free);
  return room ? body(room.get(), size) : Errno(ENOMEM);
}

}  // namespace

Result<size_t> pump_in(IoBuffer& buffer, const std::function<ssize_t(void*, size_t, size_t)>& once) {
  return with_room(buffer.left(), [&](char* room, size_t size) -> Result<size_t> {
    size_t done = 0;
    while (!buffer.empty()) {
      const size_t wanted = std::min(size, buffer.left());
      const ssize_t got = once(room, wanted, done);
      if (got < 0 && done == 0) return host_errno();
      if (got <= 0) break;
      Result<size_t> put = buffer.put(room, static_cast<size_t>(got));
      if (!put) return done > 0 ? Result<size_t>(done) : put;
      done += *put;
      if (static_cast<size_t>(got) < wanted || *put < static_cast<size_t>(got)) break;
    }
    return done;
  });
}

Result<size_t> pump_out(IoBuffer& buffer, const std::function<ssize_t(const void*, size_t, size_t)>& once) {
  return with_room(buffer.left(), [&](char* room, size_t size) -> Result<size_t> {
    size_t done = 0;
    while (!buffer.empty()) {
      Result<size_t> taken = buffer.take(room, std::min(size, buffer.left()));
      if (!taken) return done > 0 ? Result<size_t>(done) : taken;
      const ssize_t put = once(room, *taken, done);
      if (put < 0 && done == 0) return host_errno();
      if (put <= 0) break;
      done += put;
      if (static_cast<size_t>(put) < *taken) break;
    }
    return done;
  });
}

Result<size_t> HostFile::read(Task&, IoBuffer& buffer, off_t offset) {
  return pump_in(buffer,
                 [&](void* data, size_t size, size_t done) { return pread(fd_.get(), data, size, offset + static_cast<off_t>(done)); });
}

Result<void> HostFile::may_take(off_t offset, uint64_t length) {
  if (!meter_) return {};
  const Result<void> taken = meter_->may_take(length);
  if (taken.ok()) return taken;
  // What is there can be written over: a file without holes, but for its end.
  struct stat stat {};
  const bool there = fstat(fd_.get(), &stat) == 0 && stat.st_blocks * 512 >= stat.st_size && (flags() & O_APPEND) == 0 &&
                     static_cast<uint64_t>(offset) + length <= static_cast<uint64_t>(stat.st_size);
  return there ? Result<void>() : taken;
}

Result<size_t> HostFile::write(Task& task, IoBuffer& buffer, off_t offset) {
  TRY(may_take(offset, buffer.left()));
  act_as(*task.creds);  // the host clears set-user-ID bits for those who may not keep them
  // O_APPEND is set on the host's descriptor too: pwrite then ignores the offset (pwrite(2), BUGS).
  return pump_out(
      buffer, [&](const void* data, size_t size, size_t done) { return pwrite(fd_.get(), data, size, offset + static_cast<off_t>(done)); });
}

Result<off_t> HostFile::size() {
  struct stat stat;
  TRY(host_result(fstat(fd_.get(), &stat)));
  return stat.st_size;
}

Result<off_t> HostFile::seek(off_t position, off_t offset, int whence) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return File::seek(position, offset, whence);
  return TRY(host_result(lseek(fd_.get(), offset, whence)));
}

void HostFile::flags_changed() {
  const int host = fcntl(fd_.get(), F_GETFL);
  if (host >= 0 && ((host ^ flags()) & O_DIRECT) != 0) (void)fcntl(fd_.get(), F_SETFL, host ^ O_DIRECT);
}

Result<MapSource> HostFile::map(uint64_t offset, uint64_t, int prot, int flags) {
  if (!readable()) return Errno(EACCES);
  if ((flags & MAP_TYPE) != MAP_PRIVATE && (prot & PROT_WRITE) != 0 && !writable()) return Errno(EACCES);
  return MapSource{fd_.get(), offset, false};
}

Result<void> HostFile::read_dir(Task& task, int64_t& position, const DirSink& sink) {
  act_as(*task.creds);
  alignas(8) std::array<char, 8192> room;
  for (;;) {
    if (lseek(fd_.get(), position, SEEK_SET) < 0) {
      // A removed folder may refuse places that it had: what getdents64(2) says of one is ENOENT.
      struct stat stat;
      const Errno error = host_errno();
      return fstat(fd_.get(), &stat) == 0 && stat.st_nlink == 0 ? Errno(ENOENT) : error;
    }
    const long got = TRY(host_result(syscall(SYS_getdents64, fd_.get(), room.data(), room.size())));
    if (got == 0) return {};
    for (long at = 0; at < got;) {
      struct Entry {
        uint64_t inode;
        int64_t next;
        uint16_t length;
        unsigned char type;
        char name[];
      };
      const Entry* entry = reinterpret_cast<const Entry*>(room.data() + at);
      if (!sink({entry->name, entry->inode, entry->type, entry->next})) return {};
      position = entry->next;
      at += entry->length;
    }
  }
}

Result<void> HostFile::sync(bool data_only) {
  TRY(host_result(data_only ? fdatasync(fd_.get()) : fsync(fd_.get())));
  return {};
}

Result<void> HostFile::truncate(Task& task, off_t size) {
  act_as(*task.creds);
  TRY(host_result(ftruncate(fd_.get(), size)));
  return {};
}

Result<void> HostFile::allocate(int mode, off_t offset, off_t length) {
  if ((mode & FALLOC_FL_PUNCH_HOLE) == 0 && offset >= 0 && length > 0) TRY(may_take(offset, static_cast<uint64_t>(length)));
  TRY(host_result(fallocate(fd_.get(), mode, offset, length)));
  return {};
}

Result<struct statx> HostFile::stat() {
  struct statx stat;
  TRY(host_result(statx(fd_.get(), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &stat)));
  return stat;
}

Result<long> HostFile::ioctl(Task& task, unsigned command, uint64_t argument) {
  switch (command) {
    case FS_IOC_GETFLAGS: {
      int value = 0;
      TRY(host_result(::ioctl(fd_.get(), FS_IOC_GETFLAGS, &value)));
      TRY(task.write(UserPtr<int>(argument), value));
      return 0L;
    }
    case FIONREAD: {
      const struct statx stat = TRY(this->stat());
      if ((stat.stx_mode & S_IFMT) != S_IFREG) return Errno(ENOTTY);
      TRY(task.write(UserPtr<int>(argument), static_cast<int>(static_cast<off_t>(stat.stx_size) - position)));
      return 0L;
    }
    case FS_IOC_FIEMAP:
      return Errno(EOPNOTSUPP);  // where the node's disks have it is nobody's to know
    default:
      return Errno(ENOTTY);
  }
}

}  // namespace caisson::kernel
