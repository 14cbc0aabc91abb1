// FileBytes: the content of a file that lives in memory. Small contents are a piece of the heap, so that a hundred thousand small files do
// not need as many host descriptors; from kSmall bytes on, and as soon as the file is mapped, they are a memfd, whose pages the guest maps.
//
// Lock: FileBytes's own, a leaf; never held over guest memory.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "base/unique_fd.h"
#include "kernel/errno.h"
#include "kernel/held.h"
#include "kernel/io.h"

namespace caisson::kernel {

// What a file system may hold: bytes in whole pages.
class Budget {
 public:
  explicit Budget(uint64_t limit) : limit_(limit) {}
  uint64_t limit() const { return limit_.load(std::memory_order_relaxed); }
  void set_limit(uint64_t limit) { limit_ = limit; }
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  uint64_t left() const { return used() >= limit() ? 0 : limit() - used(); }
  void add(int64_t bytes) { used_ += static_cast<uint64_t>(bytes); }

 private:
  std::atomic<uint64_t> limit_;
  std::atomic<uint64_t> used_{0};
};

class FileBytes {
 public:
  static constexpr size_t kSmall = 2048;

  explicit FileBytes(std::shared_ptr<Budget> budget) : budget_(std::move(budget)) {}
  ~FileBytes();
  FileBytes(const FileBytes&) = delete;
  FileBytes& operator=(const FileBytes&) = delete;

  off_t size() const;
  uint64_t blocks() const;  // of 512 bytes
  // Bytes moved; 0 at the end of the file. EFAULT.
  Result<size_t> read(IoBuffer& buffer, off_t offset);
  // ENOSPC where the budget is used up, ENOMEM where the container's memory is, EFBIG beyond the largest offset, EFAULT.
  Result<size_t> write(IoBuffer& buffer, off_t offset);
  Result<void> resize(off_t size);
  // fallocate(2). EOPNOTSUPP for modes that tmpfs does not know.
  Result<void> allocate(int mode, off_t offset, off_t length);
  // lseek(2)'s SEEK_DATA and SEEK_HOLE. ENXIO.
  Result<off_t> seek_data(off_t offset, int whence);
  // The memfd, made now if there was none yet; writable or read-only. Borrowed: lives as long as this object.
  Result<int> host_fd(bool writable);
  // The memfd if there is one, else -1.
  int host_fd_now() const { return published_.load(std::memory_order_acquire); }

 private:
  Result<void> make_memfd_locked();
  Result<size_t> read_small(IoBuffer& buffer, off_t offset, bool& done);
  Result<size_t> write_small(IoBuffer& buffer, off_t offset, bool& done);
  Result<size_t> room_for(off_t offset, size_t length);
  void account();

  std::shared_ptr<Budget> budget_;
  HeldBytes held_ = HeldBytes::take_anyway(0);  // what the content takes; under lock_
  mutable std::mutex lock_;
  std::string small_;
  UniqueFd memfd_, read_only_;
  std::atomic<int> published_{-1};
};

// Moves bytes between a host file and a buffer through memory of the kernel's; stops at the end of the file, or when the buffer is full or
// empty. What could be moved before an error counts.
Result<size_t> read_host_bytes(int fd, IoBuffer& buffer, off_t offset);
Result<size_t> write_host_bytes(int fd, IoBuffer& buffer, off_t offset, size_t most);

}  // namespace caisson::kernel
