// PidFd: pidfd_open(2): a process, for as long as the descriptor is open.
#pragma once

#include "kernel/task/task.h"
#include "kernel/vfs/anonymous.h"

namespace caisson::kernel {

class PidFd : public AnonymousFile {
 public:
  PidFd(Kernel& kernel, std::shared_ptr<ThreadGroup> group, int flags)
      : AnonymousFile("pidfd", 0600, O_RDWR | (flags & O_NONBLOCK)), kernel_(kernel), group_(std::move(group)) {}
  Events poll() override;
  WaitQueue* wait_queue() override { return &group_->exited; }
  const std::shared_ptr<ThreadGroup>& group() const { return group_; }

 private:
  Kernel& kernel_;
  const std::shared_ptr<ThreadGroup> group_;
};

}  // namespace caisson::kernel
