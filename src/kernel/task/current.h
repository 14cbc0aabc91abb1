// The task that the calling thread serves.
#pragma once

namespace caisson::kernel {

class Task;

// Null in threads that serve none (the watcher, timers, control).
Task* current_task();

// For the life of a task's host thread (Task::run).
class CurrentTask {
 public:
  explicit CurrentTask(Task& task);
  ~CurrentTask();
  CurrentTask(const CurrentTask&) = delete;
  CurrentTask& operator=(const CurrentTask&) = delete;
};

}  // namespace caisson::kernel
