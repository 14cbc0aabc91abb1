#include "kernel/fs/tmpfs/bytes.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "kernel/platform/host_proc.h"

namespace caisson::kernel {
namespace {

constexpr size_t kPiece = 128 * 1024;
constexpr uint64_t kPage = 4096;
constexpr off_t kLargest = std::numeric_limits<off_t>::max();

uint64_t whole_pages(uint64_t bytes) { return (bytes + kPage - 1) & ~(kPage - 1); }

}  // namespace

Result<size_t> read_host_bytes(int fd, IoBuffer& buffer, off_t offset) {
  std::unique_ptr<char[]> piece;
  size_t done = 0;
  while (buffer.left() > 0) {
    const size_t want = std::min(buffer.left(), kPiece);
    if (!piece) piece.reset(new char[want]);
    const ssize_t got = pread(fd, piece.get(), want, offset);
    if (got < 0) return done > 0 ? Result<size_t>(done) : host_errno();
    if (got == 0) break;
    const Result<size_t> put = buffer.put(piece.get(), static_cast<size_t>(got));
    if (!put) return done > 0 ? Result<size_t>(done) : put;
    done += *put;
    offset += static_cast<off_t>(*put);
    if (*put < static_cast<size_t>(got)) break;
  }
  return done;
}

Result<size_t> write_host_bytes(int fd, IoBuffer& buffer, off_t offset, size_t most) {
  std::unique_ptr<char[]> piece;
  size_t done = 0;
  while (buffer.left() > 0 && done < most) {
    const size_t want = std::min({buffer.left(), kPiece, most - done});
    if (!piece) piece.reset(new char[want]);
    const Result<size_t> taken = buffer.take(piece.get(), want);
    if (!taken) return done > 0 ? Result<size_t>(done) : taken;
    if (*taken == 0) break;
    const ssize_t put = pwrite(fd, piece.get(), *taken, offset);
    if (put < 0) return done > 0 ? Result<size_t>(done) : host_errno();
    done += static_cast<size_t>(put);
    offset += put;
    if (static_cast<size_t>(put) < *taken) break;
  }
  return done;
}

FileBytes::~FileBytes() {
  if (budget_) budget_->add(-static_cast<int64_t>(held_.bytes()));
}

off_t FileBytes::size() const {
  std::lock_guard guard(lock_);
  if (!memfd_) return static_cast<off_t>(small_.size());
  struct stat st {};
  return fstat(memfd_.get(), &st) == 0 ? st.st_size : 0;
}

uint64_t FileBytes::blocks() const {
  std::lock_guard guard(lock_);
  if (!memfd_) return whole_pages(small_.size()) / 512;
  struct stat st {};
  return fstat(memfd_.get(), &st) == 0 ? static_cast<uint64_t>(st.st_blocks) : 0;
}

// Tells the budget what the content takes now. A guest that writes through a mapping is noticed at the next call.
void FileBytes::account() {
  const uint64_t now = blocks() * 512;
  std::lock_guard guard(lock_);
  budget_->add(static_cast<int64_t>(now) - static_cast<int64_t>(held_.bytes()));
  held_.become(now);
}

Result<void> FileBytes::make_memfd_locked() {
  if (memfd_) return {};
  UniqueFd made(memfd_create("tmpfs", MFD_CLOEXEC));
  if (!made) return host_errno();
  if (!small_.empty() && pwrite(made.get(), small_.data(), small_.size(), 0) != static_cast<ssize_t>(small_.size())) return host_errno();
  memfd_ = std::move(made);
  small_.clear();
  small_.shrink_to_fit();
  published_.store(memfd_.get(), std::memory_order_release);
  return {};
}

Result<int> FileBytes::host_fd(bool writable) {
  std::lock_guard guard(lock_);
  TRY(make_memfd_locked());
  if (writable) return memfd_.get();
  // A guest may do with a descriptor that its stub holds whatever its mode allows (mprotect), so one that it may only read is given as
  // such.
  if (!read_only_) read_only_ = TRY(reopen_host_fd(memfd_.get(), O_RDONLY));
  return read_only_.get();
}

Result<size_t> FileBytes::read_small(IoBuffer& buffer, off_t offset, bool& done) {
  char copy[kSmall];
  size_t length = 0;
  {
    std::lock_guard guard(lock_);
    done = !memfd_;
    if (!done || offset >= static_cast<off_t>(small_.size())) return size_t{0};
    length = std::min(buffer.left(), small_.size() - static_cast<size_t>(offset));
    memcpy(copy, small_.data() + offset, length);
  }
  return buffer.put(copy, length);
}

Result<size_t> FileBytes::read(IoBuffer& buffer, off_t offset) {
  if (offset < 0) return Errno(EINVAL);
  if (host_fd_now() < 0) {
    bool done = false;
    Result<size_t> small = read_small(buffer, offset, done);
    if (done) return small;
  }
  return read_host_bytes(host_fd_now(), buffer, offset);
}

Result<size_t> FileBytes::write_small(IoBuffer& buffer, off_t offset, bool& done) {
  done = false;
  if (static_cast<uint64_t>(offset) + buffer.left() > kSmall) return size_t{0};
  char copy[kSmall];
  const size_t length = TRY(buffer.take(copy, buffer.left()));
  done = true;
  std::lock_guard guard(lock_);
  if (memfd_) {
    // It was mapped meanwhile.
    const ssize_t put = pwrite(memfd_.get(), copy, length, offset);
    if (put < 0) return host_errno();
    return static_cast<size_t>(put);
  }
  const size_t end = static_cast<size_t>(offset) + length;
  if (small_.size() < end) small_.resize(end);
  memcpy(small_.data() + offset, copy, length);
  return length;
}

// How much of a write the budget and the container's memory let through. Pages that the file has already cost nothing.
Result<size_t> FileBytes::room_for(off_t offset, size_t length) {
  const uint64_t start = static_cast<uint64_t>(offset) & ~(kPage - 1);
  const uint64_t need = whole_pages(static_cast<uint64_t>(offset) + length) - start;
  const uint64_t memory_left = held_.left(), left = std::min(budget_->left(), memory_left);
  if (need <= left) return length;
  const int fd = host_fd_now();
  off_t covered = offset;
  if (fd >= 0) {
    const off_t data = lseek(fd, offset, SEEK_DATA);
    if (data == offset) covered = lseek(fd, offset, SEEK_HOLE);
    // The last page may be there although the file ends within it.
    if (covered >= 0) covered = static_cast<off_t>(whole_pages(static_cast<uint64_t>(covered)));
  }
  const uint64_t end = static_cast<uint64_t>(std::max(covered, offset)) + (left & ~(kPage - 1));
  const uint64_t room = end > static_cast<uint64_t>(offset) ? end - static_cast<uint64_t>(offset) : 0;
  if (room == 0) return Errno(left == memory_left ? ENOMEM : ENOSPC);
  return static_cast<size_t>(std::min<uint64_t>(room, length));
}

Result<size_t> FileBytes::write(IoBuffer& buffer, off_t offset) {
  if (offset < 0) return Errno(EINVAL);
  if (buffer.empty()) return size_t{0};
  if (offset == kLargest) return Errno(EFBIG);
  const size_t wanted = static_cast<size_t>(std::min<uint64_t>(buffer.left(), static_cast<uint64_t>(kLargest - offset)));
  const size_t most = TRY(room_for(offset, wanted));
  if (host_fd_now() < 0 && most == wanted) {
    bool done = false;
    Result<size_t> small = write_small(buffer, offset, done);
    if (!small) return small;
    if (done) {
      account();
      return small;
    }
  }
  const int fd = TRY(host_fd(true));
  Result<size_t> written = write_host_bytes(fd, buffer, offset, most);
  account();
  return written;
}

Result<void> FileBytes::resize(off_t size) {
  if (size < 0) return Errno(EINVAL);
  {
    std::lock_guard guard(lock_);
    if (!memfd_ && size <= static_cast<off_t>(kSmall)) {
      small_.resize(static_cast<size_t>(size));
    } else {
      TRY(make_memfd_locked());
      if (ftruncate(memfd_.get(), size) != 0) return host_errno();
    }
  }
  account();
  return {};
}

Result<void> FileBytes::allocate(int mode, off_t offset, off_t length) {
  constexpr int kKnown = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
  if (offset < 0 || length <= 0) return Errno(EINVAL);
  if ((mode & ~kKnown) != 0) return Errno(EOPNOTSUPP);
  if ((mode & FALLOC_FL_PUNCH_HOLE) != 0 && (mode & FALLOC_FL_KEEP_SIZE) == 0) return Errno(EOPNOTSUPP);
  if (length > kLargest - offset) return Errno(EFBIG);
  if ((mode & FALLOC_FL_PUNCH_HOLE) == 0) {
    const size_t room = TRY(room_for(offset, static_cast<size_t>(length)));
    if (room < static_cast<size_t>(length)) return Errno(held_.left() < budget_->left() ? ENOMEM : ENOSPC);
  }
  const int fd = TRY(host_fd(true));
  if (fallocate(fd, mode, offset, length) != 0) return host_errno();
  account();
  return {};
}

Result<off_t> FileBytes::seek_data(off_t offset, int whence) {
  {
    std::lock_guard guard(lock_);
    if (!memfd_) {
      if (offset < 0 || offset >= static_cast<off_t>(small_.size())) return Errno(ENXIO);
      return whence == SEEK_DATA ? offset : static_cast<off_t>(small_.size());
    }
  }
  const off_t found = lseek(host_fd_now(), offset, whence);
  if (found < 0) return host_errno();
  return found;
}

}  // namespace caisson::kernel
