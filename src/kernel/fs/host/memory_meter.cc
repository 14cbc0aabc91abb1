#include "kernel/fs/host/memory_meter.h"

#include <sys/vfs.h>

namespace caisson::kernel {

Result<void> MemoryMeter::may_take(uint64_t bytes) {
  if (since_.fetch_add(bytes, std::memory_order_relaxed) + bytes < kStep && held_.left() > kStep) return {};
  std::lock_guard guard(lock_);
  struct statfs now;
  TRY(host_result(fstatfs(root_, &now)));
  const uint64_t blocks = now.f_blocks > now.f_bfree ? now.f_blocks - now.f_bfree : 0;
  const uint64_t files = now.f_files > now.f_ffree ? now.f_files - now.f_ffree : 0;
  held_.become(blocks * static_cast<uint64_t>(now.f_bsize) + files * kFile);
  if (bytes > held_.left()) return Errno(ENOMEM);
  since_.store(bytes, std::memory_order_relaxed);
  return {};
}

}  // namespace caisson::kernel
