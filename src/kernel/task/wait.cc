#include "kernel/task/wait.h"

#include <poll.h>

#include <utility>

#include "kernel/task/task.h"

namespace caisson::kernel {

void WaitQueue::State::add(Waiter& waiter) {
  std::lock_guard guard(lock);
  waiters.push_back(&waiter);
}

void WaitQueue::State::remove(Waiter& waiter) {
  std::lock_guard guard(lock);
  waiters.remove(&waiter);
}

void WaitQueue::wake(Events events) {
  std::lock_guard guard(state_->lock);
  const bool all = (events & (POLLHUP | POLLERR)) != 0;
  bool taken = false;
  for (Waiter* waiter : state_->waiters) {
    if (waiter->interest != 0 && (waiter->interest & events) == 0) continue;
    if (waiter->takes_turns && !all && std::exchange(taken, true)) continue;
    waiter->notify(events);
  }
}

bool WaitQueue::empty() const {
  std::lock_guard guard(state_->lock);
  return state_->waiters.empty();
}

TaskWaiter::TaskWaiter(Task& task, WaitQueue& queue, Events events, bool turns) : task_(task), queue_(queue) {
  interest = events;
  takes_turns = turns;
  queue_.add(*this);
}

TaskWaiter::~TaskWaiter() { queue_.remove(*this); }

void TaskWaiter::notify(Events) { task_.wake(); }

}  // namespace caisson::kernel
