// MemoryMeter: a tmpfs of the node's that is one container's alone (a mount of its config.json) holds memory for it, which the node's
// cgroups count as the kernel process's, as that writes it: so it counts among what the kernel holds for the container (kernel/held.h).
//
// Lock: its own, a leaf.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include "kernel/held.h"

namespace caisson::kernel {

class MemoryMeter {
 public:
  static constexpr uint64_t kFile = 1024;  // bytes that a file needs beside its content, about

  // root: a descriptor of the file system; borrowed.
  MemoryMeter(int root, std::shared_ptr<HeldMemory> memory) : root_(root), held_(HeldBytes::of(std::move(memory))) {}

  // Before bytes are written, or a file is made. ENOMEM: the container has no memory left for them. Asks the host now and then only: what
  // it does not know of yet is little (kStep for each thread).
  Result<void> may_take(uint64_t bytes);

 private:
  static constexpr uint64_t kStep = 256 << 10;

  const int root_;
  std::atomic<uint64_t> since_{0};  // bytes that have been taken since the last measurement
  std::mutex lock_;
  HeldBytes held_;  // as measured
};

// The source by which the runtime marks such a mount for the kernel; its own source follows.
inline constexpr const char* kPrivateMemory = "caisson-private:";

}  // namespace caisson::kernel
