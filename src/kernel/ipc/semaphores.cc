#include "kernel/ipc/semaphores.h"

#include <sys/sem.h>

#include "kernel/task/current.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {

// What a process's end takes back. Wakes the set's waiters when the process ends; they apply it.
struct SemaphoreSet::Undo : Waiter {
  std::weak_ptr<ThreadGroup> group;
  std::shared_ptr<WaitQueue::State> exited;
  SemaphoreSet* set = nullptr;
  std::vector<int> values;
  ~Undo() override { exited->remove(*this); }
  std::atomic<bool> dead{false};
  void notify(Events) override {
    dead = true;
    set->queue.wake(~0U);
  }
};

SemaphoreSet::SemaphoreSet() = default;
SemaphoreSet::~SemaphoreSet() = default;

IpcTable<SemaphoreSet>& semaphore_sets() {
  return current_task()->spaces->ipc->part<IpcTable<SemaphoreSet>>(IpcNamespace::Semaphores, IpcLimit::Sets);
}

SemaphoreSet::Undo& SemaphoreSet::undo_of(Task& task) {
  for (const auto& undo : undo_)
    if (undo->group.lock() == task.group) return *undo;
  auto made = std::make_unique<Undo>();
  made->group = task.group;
  made->exited = task.group->exited.state();
  made->set = this;
  made->values.assign(semaphores.size(), 0);
  made->exited->add(*made);
  undo_.push_back(std::move(made));
  return *undo_.back();
}

void SemaphoreSet::undo_of_the_dead() {
  bool any = false;
  for (auto it = undo_.begin(); it != undo_.end();) {
    if (!(*it)->dead && !(*it)->group.expired()) {
      ++it;
      continue;
    }
    for (size_t i = 0; i < semaphores.size(); ++i) {
      int& value = semaphores[i].value;
      value = std::clamp(value + (*it)->values[i], 0, kMostValue);
      any |= (*it)->values[i] != 0;
    }
    it = undo_.erase(it);
  }
  if (any) queue.wake(~0U);
}

void SemaphoreSet::forget_undo(size_t number) {
  for (const auto& undo : undo_) undo->values[number] = 0;
}

Result<void> SemaphoreSet::operate(Task& task, const std::vector<SemaphoreOperation>& operations, size_t* blocker) {
  std::vector<int> values(semaphores.size());
  for (size_t i = 0; i < values.size(); ++i) values[i] = semaphores[i].value;
  bool undoes = false;
  for (size_t i = 0; i < operations.size(); ++i) {
    const SemaphoreOperation& operation = operations[i];
    int& value = values[operation.number];
    const int after = value + operation.change;
    if ((operation.change == 0 && value != 0) || after < 0) {
      *blocker = i;
      return Errno(EAGAIN);
    }
    if (after > kMostValue) return Errno(ERANGE);
    value = after;
    undoes |= (operation.flags & SEM_UNDO) != 0;
  }
  if (undoes) {
    Undo& undo = undo_of(task);
    for (const SemaphoreOperation& operation : operations)
      if ((operation.flags & SEM_UNDO) != 0) undo.values[operation.number] -= operation.change;
  }
  for (size_t i = 0; i < values.size(); ++i) semaphores[i].value = values[i];
  for (const SemaphoreOperation& operation : operations) semaphores[operation.number].last = task.group->pid;
  operated_at = realtime_now() / 1'000'000'000;
  return {};
}

}  // namespace caisson::kernel
