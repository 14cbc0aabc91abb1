// SignalFd: signalfd(2). It has no signals of its own: who reads or polls it sees those pending for himself.
#pragma once

#include "kernel/abi/signal.h"
#include "kernel/task/task.h"
#include "kernel/vfs/anonymous.h"

namespace caisson::kernel {

class SignalFd : public AnonymousFile {
 public:
  SignalFd(Task& maker, abi::SigSet mask, int flags);
  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override;
  Events poll() override;
  // Of the process that reads or polls it. A signalfd that is watched through an epoll tells of the signals of the process that added it,
  // as on Linux.
  WaitQueue* wait_queue() override;
  void set_mask(abi::SigSet mask);

 private:
  std::weak_ptr<ThreadGroup> maker_;
  Kernel& kernel_;
  std::atomic<abi::SigSet> mask_;
  WaitQueue nobody_;
};

}  // namespace caisson::kernel
