#include "kernel/io.h"

#include <string.h>

#include <algorithm>
#include <array>

#include "kernel/memory.h"

namespace caisson::kernel {

IoBuffer::IoBuffer(pid_t host_tid, std::vector<UserSpan> pieces) : host_tid_(host_tid), pieces_(std::move(pieces)) {
  for (const UserSpan& piece : pieces_) left_ += piece.length;
}

template <typename Move>
Result<size_t> IoBuffer::move(size_t size, Move&& move) {
  size = std::min(size, left_);
  size_t done = 0;
  while (done < size) {
    const UserSpan& piece = pieces_[piece_];
    const size_t now = std::min<size_t>(size - done, piece.length - offset_);
    if (now == 0) {
      ++piece_;
      offset_ = 0;
      continue;
    }
    Result<size_t> moved = move(piece.address + offset_, done, now);
    if (!moved) {
      if (done > 0) break;
      return moved.error();
    }
    done += *moved;
    offset_ += *moved;
    left_ -= *moved;
    if (*moved < now) break;
  }
  return done;
}

Result<size_t> IoBuffer::put(const void* from, size_t size) {
  if (kernel_ != nullptr) {
    size = std::min(size, left_);
    memcpy(kernel_, from, size);
    skip(size);
    return size;
  }
  return move(size, [&](uint64_t address, size_t done, size_t now) {
    return write_guest_partly(host_tid_, address, static_cast<const char*>(from) + done, now);
  });
}

Result<size_t> IoBuffer::take(void* to, size_t size) {
  if (kernel_ != nullptr) {
    size = std::min(size, left_);
    memcpy(to, kernel_, size);
    skip(size);
    return size;
  }
  return move(size, [&](uint64_t address, size_t done, size_t now) {
    return read_guest_partly(host_tid_, address, static_cast<char*>(to) + done, now);
  });
}

Result<size_t> IoBuffer::put_zeros(size_t size) {
  static constexpr std::array<char, 16384> kZeros{};
  size_t done = 0;
  while (done < size && left_ > 0) {
    Result<size_t> moved = put(kZeros.data(), std::min(size - done, kZeros.size()));
    if (!moved) return done > 0 ? Result<size_t>(done) : moved;
    done += *moved;
    if (*moved == 0) break;
  }
  return done;
}

void IoBuffer::skip(size_t size) {
  size = std::min(size, left_);
  if (kernel_ != nullptr) {
    kernel_ += size;
    left_ -= size;
    return;
  }
  (void)move(size, [](uint64_t, size_t, size_t now) { return Result<size_t>(now); });
}

void IoBuffer::limit(size_t size) { left_ = std::min(left_, size); }

}  // namespace caisson::kernel
