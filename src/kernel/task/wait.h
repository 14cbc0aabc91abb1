// Waiting: WaitQueue holds Waiters; who makes a condition true wakes the queue. Tasks sleep in Task::block only.
//
// Locks: WaitQueue's own lock is a leaf but for Waiter::notify, which may take no lock but another wait queue's or an epoll's ready lock.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
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
  Events interest = 0;       // 0: everything
  bool takes_turns = false;  // it takes what came, so that one of its kind is enough: WaitQueue::wake
};

class WaitQueue {
 public:
  // What is left of a queue for those who are still registered when its owner has gone (an epoll's items).
  struct State {
    std::mutex lock;
    std::list<Waiter*> waiters;
    void add(Waiter& waiter);
    void remove(Waiter& waiter);
  };

  void add(Waiter& waiter) { state_->add(waiter); }
  void remove(Waiter& waiter) { state_->remove(waiter); }
  const std::shared_ptr<State>& state() const { return state_; }
  // Notifies every waiter that is interested in any of `events`; of those that take turns only the one that waits longest, but for events
  // that stay for all (POLLHUP, POLLERR). Who has taken its turn wakes the queue again if something is left.
  void wake(Events events);
  bool empty() const;

 private:
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

// Wakes a task from Task::block. Registers with a queue for its lifetime.
class TaskWaiter : public Waiter {
 public:
  TaskWaiter(Task& task, WaitQueue& queue, Events events, bool takes_turns = false);
  ~TaskWaiter() override;
  TaskWaiter(const TaskWaiter&) = delete;
  TaskWaiter& operator=(const TaskWaiter&) = delete;
  void notify(Events events) override;

 private:
  Task& task_;
  WaitQueue& queue_;
};

}  // namespace caisson::kernel
