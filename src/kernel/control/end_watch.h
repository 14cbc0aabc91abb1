// A process that somebody outside waits for.
#pragma once

#include <memory>
#include <optional>

#include "kernel/task/kernel.h"

namespace caisson::kernel {

// Writes to an eventfd when the process has ended.
class EndWatch : public Waiter {
 public:
  // event: borrowed.
  EndWatch(const Kernel::Started& started, int event);
  ~EndWatch() override;
  void notify(Events) override;
  ThreadGroup& group() { return *group_; }
  // The exit status, 128 + N for signal N, once the process has ended and its output has been delivered.
  std::optional<int> outcome(Kernel& kernel);
  // It has ended, its terminal's output is on its way: nobody tells when that is through.
  bool draining() const { return draining_; }

 private:
  bool delivered();

  std::shared_ptr<ThreadGroup> group_;
  std::shared_ptr<Terminal> terminal_;
  Deadline patience_;
  int event_;
  bool draining_ = false;
};

}  // namespace caisson::kernel
