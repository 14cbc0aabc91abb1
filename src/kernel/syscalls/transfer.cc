// Moving bytes between files without passing through the guest: sendfile, splice, tee, vmsplice, copy_file_range.
#include <linux/magic.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "kernel/ipc/pipe.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/task/kernel.h"
#include "kernel/vfs/blocking.h"
#include "kernel/vfs/notify.h"

namespace caisson::kernel {
namespace {

constexpr size_t kPiece = 131'072;
constexpr size_t kMost = 0x7ffff000;

// Where one side of a transfer stands: at an offset that the guest keeps, at the file's own position, or nowhere (not seekable).
class Place {
 public:
  static Result<Place> of(Task& task, File& file, UserPtr<int64_t> at) {
    Place place(file, at);
    if (at) {
      if (!file.seekable()) return Errno(ESPIPE);
      place.offset_ = TRY(task.read(at));
      if (place.offset_ < 0) return Errno(EINVAL);
    } else if (file.seekable()) {
      std::lock_guard guard(file.position_lock);
      place.offset_ = file.position;
    }
    return place;
  }
  off_t offset() const { return offset_; }
  void advance(size_t size) { offset_ += static_cast<off_t>(size); }
  Result<void> store(Task& task) {
    if (at_) return task.write(at_, static_cast<int64_t>(offset_));
    if (file_->seekable()) {
      std::lock_guard guard(file_->position_lock);
      file_->position = offset_;
    }
    return {};
  }

 private:
  Place(File& file, UserPtr<int64_t> at) : file_(&file), at_(at) {}
  File* file_;
  UserPtr<int64_t> at_;
  int64_t offset_ = 0;
};

Errno told(Task& task, Errno error) { return error == Errno(EPIPE) ? broken_pipe(task) : error; }

// Writes all of it, waiting as the file's flags and `dont_wait` say. How much; an error only if that is nothing.
Result<size_t> write_all(Task& task, File& to, off_t offset, const char* bytes, size_t size, bool dont_wait) {
  size_t done = 0;
  while (done < size) {
    IoBuffer rest(bytes + done, size - done);
    const Result<size_t> put = blocking_op(
        task, to, POLLOUT, [&] { return to.write(task, rest, offset + static_cast<off_t>(done)); }, dont_wait);
    if (!put) {
      if (done > 0) return done;
      return told(task, put.error());
    }
    done += *put;
    if (*put == 0 || to.nonblocking() || dont_wait) break;
  }
  if (done > 0) notify(to.path(), IN_MODIFY);
  return done;
}

Result<std::pair<FileRef, FileRef>> both(Task& task, Fd in, Fd out) {
  FileRef from = TRY(task.fds->get_usable(number(in))), to = TRY(task.fds->get_usable(number(out)));
  if (!from->readable() || !to->writable()) return Errno(EBADF);
  return std::pair(std::move(from), std::move(to));
}

// From a seekable file to any.
Result<size_t> pump(Task& task, File& from, Place& in, File& to, Place& out, size_t size) {
  const std::unique_ptr<char[]> room(new char[std::min(size, kPiece)]);
  size_t done = 0;
  while (done < size) {
    IoBuffer buffer(room.get(), std::min(size - done, kPiece));
    const Result<size_t> got = from.read(task, buffer, in.offset());
    if (!got && done == 0) return got;
    if (!got || *got == 0) break;
    notify(from.path(), IN_ACCESS);
    const Result<size_t> put = write_all(task, to, out.offset(), room.get(), *got, false);
    if (!put && done == 0) return put;
    if (!put) break;
    in.advance(*put);
    out.advance(*put);
    done += *put;
    if (*put < *got || task.interrupted()) break;
  }
  return done;
}

Result<long> sys_sendfile(Task& task, Fd out_fd, Fd in_fd, UserPtr<int64_t> offset, uint64_t size) {
  const auto [from, to] = TRY(both(task, in_fd, out_fd));
  if (!from->seekable()) return Errno(offset ? ESPIPE : EINVAL);
  if ((to->flags() & O_APPEND) != 0) return Errno(EINVAL);
  Place in = TRY(Place::of(task, *from, offset)), out = TRY(Place::of(task, *to, UserPtr<int64_t>()));
  const size_t done = TRY(pump(task, *from, in, *to, out, std::min<uint64_t>(size, kMost)));
  TRY(in.store(task));
  TRY(out.store(task));
  return static_cast<long>(done);
}

Result<long> sys_copy_file_range(Task& task, Fd in_fd, UserPtr<int64_t> in_offset, Fd out_fd, UserPtr<int64_t> out_offset, uint64_t size,
                                 unsigned flags) {
  if (flags != 0) return Errno(EINVAL);
  const auto [from, to] = TRY(both(task, in_fd, out_fd));
  for (const FileRef& file : {from, to}) {
    const struct statx stat = TRY(file->stat());
    if (S_ISDIR(stat.stx_mode)) return Errno(EISDIR);
    if (!S_ISREG(stat.stx_mode)) return Errno(EINVAL);
  }
  if ((to->flags() & O_APPEND) != 0) return Errno(EBADF);
  Place in = TRY(Place::of(task, *from, in_offset)), out = TRY(Place::of(task, *to, out_offset));
  size = std::min<uint64_t>(size, kMost);
  const struct statx one = TRY(from->stat()), two = TRY(to->stat());
  const bool same = one.stx_ino == two.stx_ino && one.stx_dev_major == two.stx_dev_major && one.stx_dev_minor == two.stx_dev_minor;
  const auto length = static_cast<off_t>(size);
  if (same && in.offset() < out.offset() + length && out.offset() < in.offset() + length) return Errno(EINVAL);
  size_t done = 0;
  struct statfs target;
  const bool of_disk = to->host_fd() >= 0 && fstatfs(to->host_fd(), &target) == 0 && target.f_type != TMPFS_MAGIC;
  if (from->host_fd() >= 0 && of_disk && from->seekable() && to->seekable()) {
    // The host can share extents. Not where the position is the host's own (an engine's file as standard output).
    off_t a = in.offset(), b = out.offset();
    const ssize_t copied = ::copy_file_range(from->host_fd(), &a, to->host_fd(), &b, size, 0);
    if (copied > 0) {
      in.advance(static_cast<size_t>(copied));
      out.advance(static_cast<size_t>(copied));
      done = static_cast<size_t>(copied);
      notify(from->path(), IN_ACCESS);
      notify(to->path(), IN_MODIFY);
    }
  }
  if (done == 0) done = TRY(pump(task, *from, in, *to, out, size));
  TRY(in.store(task));
  TRY(out.store(task));
  return static_cast<long>(done);
}

// Takes from one pipe what goes into another (or copies it: tee). What has no room goes back.
Result<long> between_pipes(Task& task, PipeFile& from, PipeFile& to, size_t size, bool dont_wait, bool copy) {
  if (from.pipe() == to.pipe()) return Errno(EINVAL);
  for (;;) {
    auto look = [&] { return copy ? from.pipe()->peek(size) : from.pipe()->take(size); };
    std::deque<Chunk> chunks = TRY(blocking_op(task, from, POLLIN, look, dont_wait));
    if (chunks.empty()) return 0L;
    const Result<size_t> moved = to.pipe()->append(chunks);
    if (!copy && !chunks.empty()) from.pipe()->put_back(std::move(chunks));
    if (moved) {
      if (!copy) from.pipe()->queue.wake(POLLOUT | POLLWRNORM);
      return static_cast<long>(*moved);
    }
    if (moved.error() != Errno(EAGAIN)) return told(task, moved.error());
    // Nothing is held while waiting for room.
    TRY(blocking_op(
        task, to, POLLOUT,
        [&]() -> Result<void> {
          if (!to.pipe()->has_readers()) return Errno(EPIPE);
          if (to.pipe()->used() >= to.pipe()->capacity()) return Errno(EAGAIN);
          return {};
        },
        dont_wait));
  }
}

Result<long> from_pipe(Task& task, PipeFile& from, File& to, Place& out, size_t size, bool dont_wait) {
  if (!to.seekable() && (to.flags() & O_APPEND) != 0) return Errno(EINVAL);
  std::deque<Chunk> chunks = TRY(blocking_op(
      task, from, POLLIN, [&] { return from.pipe()->take(size); }, dont_wait));
  size_t done = 0;
  Result<size_t> put = size_t{0};
  while (!chunks.empty()) {
    Chunk& front = chunks.front();
    put = write_all(task, to, out.offset(), front.data(), front.size(), dont_wait);
    if (!put) break;
    out.advance(*put);
    done += *put;
    front.begin += *put;
    if (front.size() > 0) break;
    chunks.pop_front();
  }
  if (!chunks.empty()) from.pipe()->put_back(std::move(chunks));
  if (done > 0) from.pipe()->queue.wake(POLLOUT | POLLWRNORM);
  if (done == 0 && !put) return put.error();
  return static_cast<long>(done);
}

Result<long> to_pipe(Task& task, File& from, Place& in, PipeFile& to, size_t size, bool dont_wait) {
  const size_t room = TRY(blocking_op(
      task, to, POLLOUT,
      [&]() -> Result<size_t> {
        if (!to.pipe()->has_readers()) return Errno(EPIPE);
        const size_t used = to.pipe()->used(), capacity = to.pipe()->capacity();
        if (used >= capacity) return Errno(EAGAIN);
        return capacity - used;
      },
      dont_wait));
  Chunk chunk = Chunk::of_size(std::min({size, room, kPiece}));
  IoBuffer buffer(chunk.memory.get(), std::min({size, room, kPiece}));
  const size_t got = TRY(blocking_op(
      task, from, POLLIN, [&] { return from.read(task, buffer, in.offset()); }, dont_wait));
  chunk.end = got;
  if (got > 0) notify(from.path(), IN_ACCESS);
  in.advance(got);
  std::deque<Chunk> chunks;
  if (got > 0) chunks.push_back(std::move(chunk));
  // Somebody else may have filled it meanwhile; what has been read must not be lost.
  if (const Result<size_t> put = to.pipe()->append(chunks, true); !put) return told(task, put.error());
  return static_cast<long>(got);
}

Result<long> sys_splice(Task& task, Fd in_fd, UserPtr<int64_t> in_offset, Fd out_fd, UserPtr<int64_t> out_offset, uint64_t size,
                        unsigned flags) {
  if ((flags & ~(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)) != 0) return Errno(EINVAL);
  const auto [from, to] = TRY(both(task, in_fd, out_fd));
  auto* in_pipe = dynamic_cast<PipeFile*>(from.get());
  auto* out_pipe = dynamic_cast<PipeFile*>(to.get());
  if ((in_pipe != nullptr && in_offset) || (out_pipe != nullptr && out_offset)) return Errno(ESPIPE);
  if (in_pipe == nullptr && out_pipe == nullptr) return Errno(EINVAL);
  size = std::min<uint64_t>(size, kMost);
  if (size == 0) return 0L;
  const bool dont_wait = (flags & SPLICE_F_NONBLOCK) != 0;
  if (in_pipe != nullptr && out_pipe != nullptr) return between_pipes(task, *in_pipe, *out_pipe, size, dont_wait, false);
  Place in = TRY(Place::of(task, *from, in_offset)), out = TRY(Place::of(task, *to, out_offset));
  if (in_pipe != nullptr && (to->flags() & O_APPEND) != 0) return Errno(EINVAL);
  const long done =
      TRY(in_pipe != nullptr ? from_pipe(task, *in_pipe, *to, out, size, dont_wait) : to_pipe(task, *from, in, *out_pipe, size, dont_wait));
  TRY(in_pipe != nullptr ? out.store(task) : in.store(task));
  return done;
}

Result<long> sys_tee(Task& task, Fd in_fd, Fd out_fd, uint64_t size, unsigned flags) {
  if ((flags & ~(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)) != 0) return Errno(EINVAL);
  const auto [from, to] = TRY(both(task, in_fd, out_fd));
  auto* in_pipe = dynamic_cast<PipeFile*>(from.get());
  auto* out_pipe = dynamic_cast<PipeFile*>(to.get());
  if (in_pipe == nullptr || out_pipe == nullptr) return Errno(EINVAL);
  if (size == 0) return 0L;
  return between_pipes(task, *in_pipe, *out_pipe, std::min<uint64_t>(size, kMost), (flags & SPLICE_F_NONBLOCK) != 0, true);
}

Result<long> sys_vmsplice(Task& task, Fd fd, UserPtr<const iovec> vectors, uint64_t count, unsigned flags) {
  if ((flags & ~(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)) != 0) return Errno(EINVAL);
  const auto pipe = TRY(file_as<PipeFile>(task, fd, EBADF));
  if (count > 1024) return Errno(EINVAL);
  IoBuffer buffer = TRY(task.read_io_vectors(vectors.address(), static_cast<int>(count)));
  const bool dont_wait = (flags & SPLICE_F_NONBLOCK) != 0;
  if (!pipe->writable())
    return static_cast<long>(TRY(blocking_op(
        task, *pipe, POLLIN, [&] { return pipe->read(task, buffer, 0); }, dont_wait)));
  size_t done = 0;
  while (!buffer.empty()) {
    const Result<size_t> put = blocking_op(
        task, *pipe, POLLOUT, [&] { return pipe->write(task, buffer, 0); }, dont_wait);
    if (!put && done == 0) return told(task, put.error());
    if (!put) break;
    done += *put;
    if (dont_wait || pipe->nonblocking()) break;
  }
  return static_cast<long>(done);
}

}  // namespace

std::span<const SyscallRow> transfer_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(sendfile, 40, Full, ""),
      SYSCALL(splice, 275, Full, ""),
      SYSCALL(tee, 276, Full, ""),
      SYSCALL(vmsplice, 278, Partial, "copies: later writes to the memory are not seen"),
      SYSCALL(copy_file_range, 326, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
