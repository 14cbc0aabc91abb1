// HostFile: an open regular file or folder of the host.
#pragma once

#include "base/unique_fd.h"
#include "kernel/fs/host/memory_meter.h"
#include "kernel/vfs/file.h"

namespace caisson::kernel {

class HostFile : public File {
 public:
  // meter: of the file system, which the path keeps; null: nobody counts it.
  HostFile(Path path, int flags, UniqueFd fd, MemoryMeter* meter = nullptr)
      : File(std::move(path), flags), fd_(std::move(fd)), meter_(meter) {}
  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override;
  Result<size_t> write(Task& task, IoBuffer& buffer, off_t offset) override;
  Result<off_t> size() override;
  bool seekable() const override { return true; }
  Result<off_t> seek(off_t position, off_t offset, int whence) override;
  // O_DIRECT is the host's to set and to take away; the others are the kernel's own.
  void flags_changed() override;
  Result<MapSource> map(uint64_t offset, uint64_t length, int prot, int flags) override;
  Result<void> read_dir(Task& task, int64_t& position, const DirSink& sink) override;
  Result<void> sync(bool data_only) override;
  Result<void> truncate(Task& task, off_t size) override;
  Result<void> allocate(int mode, off_t offset, off_t length) override;
  Result<struct statx> stat() override;
  Result<long> ioctl(Task& task, unsigned command, uint64_t argument) override;
  int host_fd() const override { return fd_.get(); }

 private:
  // Those of a range that the file has not yet are memory.
  Result<void> may_take(off_t offset, uint64_t length);

  UniqueFd fd_;
  MemoryMeter* const meter_;
};

// Moves bytes between a host descriptor and a buffer through memory of the kernel's own. `once(data, size, done)` is one host call.
Result<size_t> pump_in(IoBuffer& buffer, const std::function<ssize_t(void* data, size_t size, size_t done)>& once);
Result<size_t> pump_out(IoBuffer& buffer, const std::function<ssize_t(const void* data, size_t size, size_t done)>& once);

}  // namespace caisson::kernel
