// System V semaphores.
#include <inttypes.h>
#include <sys/sem.h>

#include "kernel/ipc/limits.h"
#include "kernel/ipc/listing.h"
#include "kernel/ipc/semaphores.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"
#include "kernel/time/clock.h"

namespace caisson::kernel {
namespace {

// Whatever the namespace allows: semaphores are numbered by two bytes, and operations are copied in one piece.
constexpr size_t kMostInSet = 65536, kMostOperations = 65536;
using SetRef = std::shared_ptr<SemaphoreSet>;

const IpcLimits& limits_for(Task& task) { return IpcLimits::of(*task.spaces->ipc); }

Result<long> sys_semget(Task& task, int key, int count, int flags) {
  const IpcLimits& limits = limits_for(task);
  if (count < 0 || static_cast<size_t>(count) > std::min<uint64_t>(kMostInSet, limits[IpcLimit::SetSemaphores])) return Errno(EINVAL);
  return static_cast<long>(TRY(semaphore_sets().get(
      task, key, flags,
      [&]() -> Result<SetRef> {
        if (count == 0) return Errno(EINVAL);
        uint64_t all = static_cast<uint64_t>(count);
        semaphore_sets().each([&](int, const SetRef& other) { all += other->semaphores.size(); });
        if (all > limits[IpcLimit::Semaphores]) return Errno(ENOSPC);
        auto set = std::make_shared<SemaphoreSet>();
        set->semaphores.resize(static_cast<size_t>(count));
        return set;
      },
      [&](const SemaphoreSet& old) {
        return static_cast<size_t>(count) > old.semaphores.size() ? Result<void>(Errno(EINVAL)) : Result<void>();
      })));
}

Result<SetRef> set_of(int id) {
  SetRef set = semaphore_sets().find(id);
  if (!set || set->removed) return Errno(EINVAL);
  return set;
}

Result<long> operate(Task& task, int id, const std::vector<SemaphoreOperation>& operations, Deadline deadline) {
  SetRef set;
  bool changes = false;
  for (const SemaphoreOperation& operation : operations) changes |= operation.change != 0;
  {
    std::lock_guard guard(semaphore_sets().lock);
    set = TRY(set_of(id));
    TRY(ipc_access(task, set->permissions, changes ? 2 : 4));
    for (const SemaphoreOperation& operation : operations)
      if (operation.number >= set->semaphores.size()) return Errno(EFBIG);
  }
  TaskWaiter waiter(task, set->queue, 0);
  for (;;) {
    task.prepare_to_block();
    size_t blocker = 0;
    int* counted = nullptr;
    {
      std::lock_guard guard(semaphore_sets().lock);
      if (set->removed) return Errno(EIDRM);
      set->undo_of_the_dead();
      const Result<void> done = set->operate(task, operations, &blocker);
      if (!done && done.error() != Errno(EAGAIN)) return done.error();
      if (!done && (operations[blocker].flags & IPC_NOWAIT) != 0) return Errno(EAGAIN);
      if (!done) {
        auto& semaphore = set->semaphores[operations[blocker].number];
        counted = operations[blocker].change == 0 ? &semaphore.waits_for_zero : &semaphore.waits_for_more;
        ++*counted;
      }
    }
    if (counted == nullptr) {
      if (changes) set->queue.wake(~0U);
      return 0L;
    }
    const Result<void> slept = task.block(deadline);
    {
      std::lock_guard guard(semaphore_sets().lock);
      --*counted;
      if (set->removed) return Errno(EIDRM);
    }
    if (!slept) return slept.error() == Errno(ETIMEDOUT) ? Errno(EAGAIN) : Errno(EINTR);
  }
}

Result<std::vector<SemaphoreOperation>> read_operations(Task& task, UserPtr<const SemaphoreOperation> at, uint64_t count) {
  if (count < 1) return Errno(EINVAL);
  if (count > std::min<uint64_t>(kMostOperations, limits_for(task)[IpcLimit::Operations])) return Errno(E2BIG);
  std::vector<SemaphoreOperation> operations(count);
  TRY(task.read_bytes(at.address(), operations.data(), count * sizeof(SemaphoreOperation)));
  return operations;
}

Result<long> sys_semop(Task& task, int id, UserPtr<const SemaphoreOperation> at, uint64_t count) {
  return operate(task, id, TRY(read_operations(task, at, count)), Deadline::never());
}

Result<long> sys_semtimedop(Task& task, int id, UserPtr<const SemaphoreOperation> at, uint64_t count, UserPtr<const timespec> timeout) {
  const auto operations = TRY(read_operations(task, at, count));
  Deadline deadline = Deadline::never();
  if (timeout) deadline = Deadline::after(TRY(nanoseconds_of(TRY(task.read(timeout)))));
  return operate(task, id, operations, deadline);
}

// struct semid64_ds of x86-64.
struct SetStatus {
  IpcPermissions permissions;
  int64_t operated_at;
  uint64_t unused1;
  int64_t changed_at;
  uint64_t unused2, count, unused3, unused4;
};
static_assert(sizeof(SetStatus) == 104);

Result<long> change(Task& task, int id, int number, int command, uint64_t argument, const SetStatus& wanted,
                    const std::vector<uint16_t>& values) {
  SetRef set;
  {
    std::lock_guard guard(semaphore_sets().lock);
    set = TRY(set_of(id));
    if (command == IPC_SET || command == IPC_RMID)
      TRY(ipc_owns(task, set->permissions));
    else
      TRY(ipc_access(task, set->permissions, 2));
    if (command == IPC_SET) {
      set->permissions.uid = wanted.permissions.uid;
      set->permissions.gid = wanted.permissions.gid;
      set->permissions.mode = wanted.permissions.mode & 0777;
    } else if (command == IPC_RMID) {
      set->removed = true;
      semaphore_sets().remove(id);
    } else if (command == SETVAL) {
      const int value = static_cast<int>(argument);
      if (number < 0 || static_cast<size_t>(number) >= set->semaphores.size()) return Errno(EINVAL);
      if (value < 0 || value > SemaphoreSet::kMostValue) return Errno(ERANGE);
      set->semaphores[static_cast<size_t>(number)].value = value;
      set->semaphores[static_cast<size_t>(number)].last = task.group->pid;
      set->forget_undo(static_cast<size_t>(number));
    } else {
      if (values.size() != set->semaphores.size()) return Errno(EINVAL);
      for (const uint16_t value : values)
        if (value > SemaphoreSet::kMostValue) return Errno(ERANGE);
      for (size_t i = 0; i < values.size(); ++i) {
        set->semaphores[i].value = values[i];
        set->forget_undo(i);
      }
    }
    set->changed_at = realtime_now() / 1'000'000'000;
  }
  set->queue.wake(~0U);
  return 0L;
}

Result<long> sys_semctl(Task& task, int id, int number, int command, uint64_t argument) {
  SetStatus status{};
  std::vector<uint16_t> values;
  if (command == IPC_SET) status = TRY(task.read(UserPtr<SetStatus>(argument)));
  if (command == SETALL) {
    {
      std::lock_guard guard(semaphore_sets().lock);
      values.resize(TRY(set_of(id))->semaphores.size());
    }
    TRY(task.read_bytes(argument, values.data(), values.size() * sizeof(uint16_t)));
  }
  if (command == IPC_SET || command == IPC_RMID || command == SETVAL || command == SETALL)
    return change(task, id, number, command, argument, status, values);
  if (command == IPC_INFO || command == SEM_INFO) {
    int greatest = 0;
    seminfo info{};
    {
      std::lock_guard guard(semaphore_sets().lock);
      greatest = semaphore_sets().greatest();
      info.semusz = command == SEM_INFO ? static_cast<int>(semaphore_sets().size()) : 20;
    }
    const IpcLimits& limits = limits_for(task);
    info.semmni = static_cast<int>(limits[IpcLimit::Sets]);
    info.semmsl = static_cast<int>(limits[IpcLimit::SetSemaphores]);
    info.semmns = static_cast<int>(limits[IpcLimit::Semaphores]);
    info.semopm = static_cast<int>(limits[IpcLimit::Operations]);
    info.semvmx = info.semaem = SemaphoreSet::kMostValue;
    TRY(task.write(UserPtr<seminfo>(argument), info));
    return static_cast<long>(greatest);
  }
  long result = 0;
  {
    std::lock_guard guard(semaphore_sets().lock);
    const SetRef set = TRY(set_of(id));
    TRY(ipc_access(task, set->permissions, 4));
    set->undo_of_the_dead();
    if (command == IPC_STAT || command == SEM_STAT) {
      status.permissions = set->permissions;
      status.operated_at = set->operated_at;
      status.changed_at = set->changed_at;
      status.count = set->semaphores.size();
      result = command == SEM_STAT ? id : 0;
    } else if (command == GETALL) {
      for (const auto& semaphore : set->semaphores) values.push_back(static_cast<uint16_t>(semaphore.value));
    } else {
      if (number < 0 || static_cast<size_t>(number) >= set->semaphores.size()) return Errno(EINVAL);
      const auto& semaphore = set->semaphores[static_cast<size_t>(number)];
      switch (command) {
        case GETVAL:
          return static_cast<long>(semaphore.value);
        case GETPID:
          return static_cast<long>(semaphore.last);
        case GETNCNT:
          return static_cast<long>(semaphore.waits_for_more);
        case GETZCNT:
          return static_cast<long>(semaphore.waits_for_zero);
        default:
          return Errno(EINVAL);
      }
    }
  }
  if (command == GETALL)
    TRY(task.write_bytes(argument, values.data(), values.size() * sizeof(uint16_t)));
  else
    TRY(task.write(UserPtr<SetStatus>(argument), status));
  return result;
}

}  // namespace

Result<std::string> list_semaphores(Task& reader) {
  std::string text = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
  std::lock_guard guard(semaphore_sets().lock);
  semaphore_sets().each([&](int id, const SetRef& set) {
    append_format(text, "%10d %10d  %4o %10zu", set->permissions.key, id, set->permissions.mode, set->semaphores.size());
    text += ipc_ids_text(reader, set->permissions);
    append_format(text, " %10" PRId64 " %10" PRId64 "\n", set->operated_at, set->changed_at);
  });
  return text;
}

std::span<const SyscallRow> sem_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(semget, 64, Full, ""),
      SYSCALL(semop, 65, Full, ""),
      SYSCALL(semctl, 66, Full, ""),
      SYSCALL(semtimedop, 220, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
