// IoBuffer: where a read puts its bytes and a write takes them from: pieces of guest memory (readv, writev), or memory of the kernel's own.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "kernel/errno.h"
#include "kernel/user_ptr.h"

namespace caisson::kernel {

class IoBuffer {
 public:
  // Guest memory of the host process host_tid.
  IoBuffer(pid_t host_tid, std::vector<UserSpan> pieces);
  IoBuffer(pid_t host_tid, UserSpan piece) : IoBuffer(host_tid, std::vector<UserSpan>{piece}) {}
  // Kernel memory.
  IoBuffer(void* data, size_t size) : kernel_(static_cast<char*>(data)), left_(size) {}
  IoBuffer(const void* data, size_t size) : kernel_(const_cast<char*>(static_cast<const char*>(data))), left_(size) {}

  // Bytes that are still to come.
  size_t left() const { return left_; }
  bool empty() const { return left_ == 0; }

  // Moves up to min(size, left()) bytes and goes on behind them. What could be moved before a fault counts; EFAULT if it was nothing (and
  // size and left() were not 0).
  Result<size_t> put(const void* from, size_t size);
  Result<size_t> take(void* to, size_t size);
  Result<size_t> put_zeros(size_t size);
  void skip(size_t size);
  // Reads no further than `size` more bytes from now on.
  void limit(size_t size);

 private:
  template <typename Move>
  Result<size_t> move(size_t size, Move&& move);

  pid_t host_tid_ = 0;
  std::vector<UserSpan> pieces_;
  size_t piece_ = 0;
  uint64_t offset_ = 0;
  char* kernel_ = nullptr;
  size_t left_ = 0;
};

}  // namespace caisson::kernel
