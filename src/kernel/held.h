// HeldMemory: what the kernel process itself holds for one container: files in memory, bytes in pipes, sockets and message queues. To the
// node's cgroups all of it is the kernel process's, which the containers of a pod share; so it has a limit of its own here, nearly
// the container's memory limit. What a guest maps and touches by itself is its own cgroup's.
//
// Who makes something pays for it as long as it is there, whoever uses it. Any thread; no locks.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "kernel/errno.h"

namespace caisson::kernel {

class HeldMemory {
 public:
  static constexpr uint64_t kNoLimit = UINT64_MAX;

  uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  uint64_t left() const {
    const uint64_t now = used(), most = limit_.load(std::memory_order_relaxed);
    return now < most ? most - now : 0;
  }
  // What is there already may be more.
  void set_limit(uint64_t bytes) { limit_.store(bytes, std::memory_order_relaxed); }

  // False, and nothing taken, where less is left.
  bool take(uint64_t bytes) {
    if (bytes > left()) return false;
    take_anyway(bytes);
    return true;
  }
  // For what cannot be refused any more.
  void take_anyway(uint64_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void give_back(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

 private:
  // Threads that take at once may go beyond the limit by what each of them takes.
  std::atomic<uint64_t> used_{0}, limit_{kNoLimit};
};

// Of the container whose task the calling thread serves; what is made for no container has no limit.
const std::shared_ptr<HeldMemory>& held_memory();

// Bytes of one, given back in the end.
class HeldBytes {
 public:
  HeldBytes() = default;  // of nobody
  // Of held_memory(). ENOMEM: the container has no more left.
  static Result<HeldBytes> take(uint64_t bytes) {
    const auto& from = held_memory();
    if (!from->take(bytes)) return Errno(ENOMEM);
    return HeldBytes(from, bytes);
  }
  static HeldBytes take_anyway(uint64_t bytes) {
    const auto& from = held_memory();
    from->take_anyway(bytes);
    return HeldBytes(from, bytes);
  }
  // None yet, of this one.
  static HeldBytes of(std::shared_ptr<HeldMemory> from) { return HeldBytes(std::move(from), 0); }
  HeldBytes(HeldBytes&& other) noexcept = default;
  HeldBytes& operator=(HeldBytes&& other) noexcept {
    std::swap(from_, other.from_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~HeldBytes() {
    if (from_) from_->give_back(bytes_);
  }
  // So many from now on, whether there is room for them or not.
  void become(uint64_t bytes) {
    if (!from_) return;
    if (bytes > bytes_)
      from_->take_anyway(bytes - bytes_);
    else
      from_->give_back(bytes_ - bytes);
    bytes_ = bytes;
  }
  uint64_t bytes() const { return bytes_; }
  // How many more there may be.
  uint64_t left() const { return from_ ? from_->left() : HeldMemory::kNoLimit; }

 private:
  HeldBytes(std::shared_ptr<HeldMemory> from, uint64_t bytes) : from_(std::move(from)), bytes_(bytes) {}
  std::shared_ptr<HeldMemory> from_;
  uint64_t bytes_ = 0;
};

}  // namespace caisson::kernel
