// Threads of the kernel process that have served a task to its end wait a moment for another: to make and end one for each of the short
// processes of a shell script is a good part of what they cost.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "kernel/task/task.h"

namespace caisson::kernel {

class IdleThreads {
 public:
  static IdleThreads& get();
  // Hands the task to a thread that waits; false: none does, and it is still the caller's.
  bool give(std::unique_ptr<Task>& task);
  // By such a thread: the next task, or null after a while, or where enough others wait.
  std::unique_ptr<Task> wait();

 private:
  struct Waiting {
    uint32_t served = 0;  // futex word
    std::unique_ptr<Task> task;
  };
  static constexpr size_t kMost = 4;
  static constexpr int64_t kPatience = 500'000'000;  // nanoseconds: what an idle container keeps is little
  std::mutex lock_;                                  // a leaf: the list; who is taken from it is the giver's until it is served
  std::vector<Waiting*> waiting_;
};

}  // namespace caisson::kernel
