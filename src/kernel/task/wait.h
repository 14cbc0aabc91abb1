// Waiting: WaitQueue holds Waiters; who makes a condition true wakes the queue. Tasks sleep in Task::block only.
//
// Locks: WaitQueue's own lock is a leaf but for Waiter::notify, which may take no lock but another wait queue's or an epoll's ready lock.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>

namespace caisson::kernel {

class Task;

// poll(2)'s bits: POLLIN...
using Events = uint32_t;

class Waiter {
 public:
  virtual ~Waiter() = default;
  // Runs in the waking thread, under the queue's lock. Must not block, and must not add to or remove from the same queue.
  virtual void notify(Events events) = 0;
  Events interest = 0;  // 0: everything
};

class WaitQueue {
 public:
  void add(Waiter& waiter);
  void remove(Waiter& waiter);
  // Notifies every waiter that is interested in any of `events`.
  void wake(Events events);
  // Notifies at most `count` waiters, the longest waiting first; returns how many.
  int wake_some(Events events, int count);
  bool empty() const;

 private:
  mutable std::mutex lock_;
  std::list<Waiter*> waiters_;
};

// Wakes a task from Task::block. Registers with a queue for its lifetime.
class TaskWaiter : public Waiter {
 public:
  TaskWaiter(Task& task, WaitQueue& queue, Events events);
  ~TaskWaiter() override;
  TaskWaiter(const TaskWaiter&) = delete;
  TaskWaiter& operator=(const TaskWaiter&) = delete;
  void notify(Events events) override;

 private:
  Task& task_;
  WaitQueue& queue_;
};

}  // namespace caisson::kernel
