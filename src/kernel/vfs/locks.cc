#include "kernel/vfs/locks.h"

#include <sys/file.h>

#include <algorithm>
#include <map>

#include "kernel/task/task.h"
#include "kernel/vfs/range_locks.h"

namespace caisson::kernel {
namespace {

using Key = std::pair<uint64_t, uint64_t>;

struct FileLocks {
  RangeLocks records, whole;  // fcntl's and flock's know nothing of each other
  WaitQueue queue;
  int waiting = 0;
};

struct Table {
  std::mutex lock;
  std::map<Key, std::shared_ptr<FileLocks>> files;
  // Who waits for whom: a process that would wait for itself gets EDEADLK.
  std::map<const void*, const void*> waits;
};

Table& table() {
  static Table the;
  return the;
}
// So that closing costs nothing where nobody locks.
std::atomic<size_t> g_files{0};

Key key_of(const File& file) {
  if (file.path()) return file.path().inode()->identity();
  return {2, reinterpret_cast<uint64_t>(&file)};
}

std::shared_ptr<FileLocks> locks_of_locked(const Key& key) {
  std::shared_ptr<FileLocks>& locks = table().files[key];
  if (!locks) locks = std::make_shared<FileLocks>();
  g_files = table().files.size();
  return locks;
}

void sweep_locked(const Key& key) {
  const auto found = table().files.find(key);
  if (found == table().files.end() || !found->second->records.empty() || !found->second->whole.empty() || found->second->waiting > 0)
    return;
  table().files.erase(found);
  g_files = table().files.size();
}

bool would_deadlock_locked(const void* who, const void* holder) {
  for (int steps = 0; holder != nullptr && steps < 1000; ++steps) {
    if (holder == who) return true;
    const auto next = table().waits.find(holder);
    holder = next == table().waits.end() ? nullptr : next->second;
  }
  return false;
}

enum class Kind { Record, Whole };
RangeLocks& of_kind(FileLocks& locks, Kind kind) { return kind == Kind::Record ? locks.records : locks.whole; }

// Takes a lock, or waits for it.
Result<void> take(Task& task, const Key& key, Kind kind, const RangeLocks::Held& wanted, bool wait, bool check_deadlock) {
  std::shared_ptr<FileLocks> locks;
  {
    std::lock_guard guard(table().lock);
    locks = locks_of_locked(key);
    ++locks->waiting;
  }
  TaskWaiter waiter(task, locks->queue, 0);
  Result<void> result;
  for (;;) {
    task.prepare_to_block();
    {
      std::lock_guard guard(table().lock);
      table().waits.erase(wanted.owner);
      RangeLocks& held = of_kind(*locks, kind);
      const auto conflict = held.conflict(wanted);
      if (!conflict) {
        result = held.take(wanted);
        break;
      }
      result = Errno(EAGAIN);
      if (!wait) break;
      result = Errno(EDEADLK);
      if (check_deadlock && would_deadlock_locked(wanted.owner, conflict->owner)) break;
      if (check_deadlock) table().waits[wanted.owner] = conflict->owner;
    }
    result = task.block();
    if (!result) break;
  }
  {
    std::lock_guard guard(table().lock);
    table().waits.erase(wanted.owner);
    --locks->waiting;
    sweep_locked(key);
  }
  // A lock that became shared, or smaller, may let others in.
  if (result) locks->queue.wake(~0U);
  return result;
}

void release(const Key& key, Kind kind, const void* owner, off_t first, off_t last) {
  std::shared_ptr<FileLocks> locks;
  {
    std::lock_guard guard(table().lock);
    const auto found = table().files.find(key);
    if (found == table().files.end()) return;
    locks = found->second;
    of_kind(*locks, kind).release(owner, first, last);
    sweep_locked(key);
  }
  locks->queue.wake(~0U);
}

void release_everywhere(const void* owner) {
  if (g_files.load() == 0) return;
  std::vector<std::shared_ptr<FileLocks>> changed;
  {
    std::lock_guard guard(table().lock);
    for (auto it = table().files.begin(); it != table().files.end();) {
      const auto current = it++;
      FileLocks& locks = *current->second;
      const auto owns = [owner](const RangeLocks& kind) {
        return std::any_of(kind.all().begin(), kind.all().end(), [owner](const RangeLocks::Held& held) { return held.owner == owner; });
      };
      if (!owns(locks.records) && !owns(locks.whole)) continue;
      changed.push_back(current->second);
      locks.records.release(owner, 0, RangeLocks::kEnd);
      locks.whole.release(owner, 0, RangeLocks::kEnd);
      sweep_locked(current->first);
    }
  }
  for (const auto& locks : changed) locks->queue.wake(~0U);
}

// struct flock of x86-64.
struct GuestLock {
  int16_t type, whence;
  int32_t pad;
  int64_t start, length;
  int32_t pid, pad2;
};
static_assert(sizeof(GuestLock) == 32);

Result<RangeLocks::Held> parse(Task& task, File& file, const GuestLock& lock, bool of_description) {
  off_t base = 0;
  if (lock.whence == SEEK_CUR) {
    std::lock_guard guard(file.position_lock);
    base = file.position;
  } else if (lock.whence == SEEK_END) {
    base = TRY(file.size());
  } else if (lock.whence != SEEK_SET) {
    return Errno(EINVAL);
  }
  RangeLocks::Held wanted;
  if (__builtin_add_overflow(base, lock.start, &wanted.first)) return Errno(EOVERFLOW);
  if (lock.length > 0) {
    if (__builtin_add_overflow(wanted.first, lock.length - 1, &wanted.last)) return Errno(EOVERFLOW);
  } else if (lock.length < 0) {
    // The bytes before `start`.
    wanted.last = wanted.first - 1;
    if (__builtin_add_overflow(wanted.first, lock.length, &wanted.first)) return Errno(EINVAL);
  }
  if (wanted.first < 0 || wanted.last < 0) return Errno(EINVAL);
  wanted.exclusive = lock.type == F_WRLCK;
  wanted.owner = of_description ? static_cast<const void*>(&file) : static_cast<const void*>(task.fds.get());
  wanted.pid = of_description ? -1 : task.group->pid;
  return wanted;
}

Result<long> get_lock(Task& task, File& file, GuestLock lock, uint64_t argument, const RangeLocks::Held& wanted) {
  std::optional<RangeLocks::Held> conflict;
  {
    std::lock_guard guard(table().lock);
    const auto found = table().files.find(key_of(file));
    if (found != table().files.end()) conflict = found->second->records.conflict(wanted);
  }
  if (conflict) {
    lock.type = conflict->exclusive ? F_WRLCK : F_RDLCK;
    lock.whence = SEEK_SET;
    lock.start = conflict->first;
    lock.length = conflict->last == RangeLocks::kEnd ? 0 : conflict->last - conflict->first + 1;
    lock.pid = conflict->pid;
  } else {
    lock.type = F_UNLCK;
  }
  TRY(task.write(UserPtr<GuestLock>(argument), lock));
  return 0L;
}

}  // namespace

bool is_lock_command(int command) {
  switch (command) {
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
      return true;
    default:
      return false;
  }
}

Result<long> lock_command(Task& task, const FileRef& file, int command, uint64_t argument) {
  const auto lock = TRY(task.read(UserPtr<GuestLock>(argument)));
  const bool of_description = command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW;
  if (of_description && lock.pid != 0) return Errno(EINVAL);
  if (lock.type != F_RDLCK && lock.type != F_WRLCK && lock.type != F_UNLCK) return Errno(EINVAL);
  const RangeLocks::Held wanted = TRY(parse(task, *file, lock, of_description));
  if (command == F_GETLK || command == F_OFD_GETLK)
    return lock.type == F_UNLCK ? Errno(EINVAL) : get_lock(task, *file, lock, argument, wanted);
  if (lock.type == F_RDLCK && !file->readable()) return Errno(EBADF);
  if (lock.type == F_WRLCK && !file->writable()) return Errno(EBADF);
  if (lock.type == F_UNLCK) {
    release(key_of(*file), Kind::Record, wanted.owner, wanted.first, wanted.last);
    return 0L;
  }
  if (of_description) file->has_locks = true;
  TRY(take(task, key_of(*file), Kind::Record, wanted, command == F_SETLKW || command == F_OFD_SETLKW, !of_description));
  return 0L;
}

Result<long> flock_file(Task& task, const FileRef& file, int operation) {
  const bool wait = (operation & LOCK_NB) == 0;
  operation &= ~LOCK_NB;
  if (operation == LOCK_UN) {
    release(key_of(*file), Kind::Whole, file.get(), 0, RangeLocks::kEnd);
    return 0L;
  }
  if (operation != LOCK_SH && operation != LOCK_EX) return Errno(EINVAL);
  file->has_locks = true;
  RangeLocks::Held wanted;
  wanted.exclusive = operation == LOCK_EX;
  wanted.owner = file.get();
  wanted.pid = task.group->pid;
  // Changing the kind gives the old lock up first (flock(2)).
  release(key_of(*file), Kind::Whole, file.get(), 0, RangeLocks::kEnd);
  TRY(take(task, key_of(*file), Kind::Whole, wanted, wait, false));
  return 0L;
}

void release_record_locks(const FdTable& owner, const File& file) {
  if (g_files.load() != 0) release(key_of(file), Kind::Record, &owner, 0, RangeLocks::kEnd);
}

void release_locks_of(const FdTable& owner) { release_everywhere(&owner); }
void release_locks_of(const File& owner) { release_everywhere(&owner); }

std::string lock_table_text() {
  std::string text;
  int number = 0;
  std::lock_guard guard(table().lock);
  for (const auto& [key, locks] : table().files) {
    const auto add = [&](const RangeLocks& kind, const char* name) {
      for (const RangeLocks::Held& held : kind.all()) {
        text += std::to_string(++number) + ": " + (held.pid == -1 ? "OFDLCK" : name) + " ADVISORY  " +
                (held.exclusive ? "WRITE " : "READ  ") + std::to_string(held.pid) + " 00:00:" + std::to_string(key.second) + " " +
                std::to_string(held.first) + " " + (held.last == RangeLocks::kEnd ? "EOF" : std::to_string(held.last)) + "\n";
      }
    };
    add(locks->records, "POSIX ");
    add(locks->whole, "FLOCK ");
  }
  return text;
}

}  // namespace caisson::kernel
