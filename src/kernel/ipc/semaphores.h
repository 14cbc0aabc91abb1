// Sets of System V semaphores.
#pragma once

#include <list>
#include <vector>

#include "kernel/ipc/sysv.h"

namespace caisson::kernel {

struct SemaphoreOperation {
  uint16_t number;
  int16_t change;
  int16_t flags;  // IPC_NOWAIT, SEM_UNDO
};
static_assert(sizeof(SemaphoreOperation) == 6);

// All of it under the table's lock but `queue`.
class SemaphoreSet : public std::enable_shared_from_this<SemaphoreSet> {
 public:
  static constexpr int kMostValue = 32767;
  struct Semaphore {
    int value = 0;
    pid_t last = 0;
    int waits_for_more = 0, waits_for_zero = 0;
  };
  IpcPermissions permissions;
  std::vector<Semaphore> semaphores;
  int64_t operated_at = 0, changed_at = realtime_now() / 1'000'000'000;
  bool removed = false;
  WaitQueue queue;

  SemaphoreSet();
  ~SemaphoreSet();
  // Does all operations or none. EAGAIN: *blocker is the first that cannot be; ERANGE, EFBIG.
  Result<void> operate(Task& task, const std::vector<SemaphoreOperation>& operations, size_t* blocker);
  // SEM_UNDO of processes that have ended.
  void undo_of_the_dead();
  // SETVAL, SETALL: undo values of the semaphore are forgotten.
  void forget_undo(size_t number);

 private:
  struct Undo;
  Undo& undo_of(Task& task);
  std::list<std::unique_ptr<Undo>> undo_;
};

IpcTable<SemaphoreSet>& semaphore_sets();

}  // namespace caisson::kernel
