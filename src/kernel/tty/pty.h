// The master's end of a guest's own pseudo-terminal (/dev/ptmx).
#pragma once

#include <memory>

#include "kernel/tty/terminal.h"

namespace caisson::kernel {

class Devpts;

class PtyMasterFile : public File {
 public:
  // A new pseudo-terminal of this devpts; locked, as pts(4) has it. ENOSPC.
  static Result<FileRef> open(Task& task, std::shared_ptr<Devpts> devpts, Path path, int flags);
  ~PtyMasterFile() override;
  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override;
  Result<size_t> write(Task& task, IoBuffer& buffer, off_t offset) override;
  Events poll() override { return terminal_->poll_master(); }
  WaitQueue* wait_queue() override { return &terminal_->master_queue; }
  Result<long> ioctl(Task& task, unsigned command, uint64_t argument) override;
  std::string description() const override { return "/dev/ptmx"; }

 private:
  PtyMasterFile(std::shared_ptr<Terminal> terminal, std::shared_ptr<Devpts> devpts, Path path, int flags);
  std::shared_ptr<Terminal> terminal_;
  std::shared_ptr<Devpts> devpts_;
};

}  // namespace caisson::kernel
