// Other processes' memory and what they share: process_vm_readv, process_vm_writev, kcmp.
#include <linux/kcmp.h>
#include <sys/random.h>

#include <algorithm>

#include "kernel/event/epoll.h"
#include "kernel/patch/call_sites.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/ptrace.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

constexpr size_t kChunk = 64 * 1024;

// Another process of the caller's PID namespace that it may look into; under Kernel::tasks. ESRCH, EPERM.
Result<Task*> find_locked(Task& task, pid_t tid) {
  const auto found = task.group->pids->tasks.find(tid);
  if (found == task.group->pids->tasks.end() || !found->second->creds) return Errno(ESRCH);
  if (!may_look_into(task, *found->second)) return Errno(EPERM);
  return found->second;
}

// Where its memory is on the host just now. Asked before every piece: once the process has gone, its number may be another's.
Result<pid_t> host_of(Task& task, pid_t tid, std::weak_ptr<AddressSpace>& memory) {
  std::lock_guard guard(task.kernel.tasks);
  const Task* other = TRY(find_locked(task, tid));
  if (!other->stub || !other->memory) return Errno(ESRCH);
  if (memory.expired()) memory = other->memory;
  if (memory.lock() != other->memory) return Errno(EFAULT);
  return other->host_tid();
}

Result<std::vector<UserSpan>> read_remote_vectors(Task& task, uint64_t vectors, uint64_t count) {
  if (count > 1024) return Errno(EINVAL);
  std::vector<UserSpan> spans(count);
  struct Vector {
    uint64_t base, length;
  };
  std::vector<Vector> raw(count);
  TRY(task.read_bytes(vectors, raw.data(), raw.size() * sizeof(Vector)));
  for (size_t i = 0; i < raw.size(); ++i) {
    if (static_cast<int64_t>(raw[i].length) < 0) return Errno(EINVAL);
    spans[i] = {raw[i].base, raw[i].length};
  }
  return spans;
}

// One span. False: it was not possible any more; *done counts what was.
Result<bool> transfer(Task& task, pid_t tid, std::weak_ptr<AddressSpace>& memory, IoBuffer& local, UserSpan remote, bool writes,
                      size_t* done) {
  std::vector<char> bytes(std::min<size_t>(kChunk, remote.length));
  for (uint64_t at = 0; at < remote.length && !local.empty();) {
    // A signal that does not end the caller cuts nothing short (process_vm_readv(2) knows no EINTR).
    if (task.dying()) return false;
    const size_t wanted = std::min<uint64_t>({bytes.size(), remote.length - at, local.left()});
    const pid_t host = TRY(host_of(task, tid, memory));
    Result<size_t> moved = size_t{0};
    if (writes) {
      const size_t taken = TRY(local.take(bytes.data(), wanted));
      moved = write_guest_partly(host, remote.address + at, bytes.data(), taken);
    } else {
      moved = read_guest_partly(host, remote.address + at, bytes.data(), wanted);
      const std::shared_ptr<AddressSpace> theirs = memory.lock();
      if (moved && theirs) theirs->call_sites().show_originals(remote.address + at, {reinterpret_cast<uint8_t*>(bytes.data()), *moved});
      if (moved) moved = local.put(bytes.data(), *moved);
    }
    const size_t count = TRY(std::move(moved));
    *done += count;
    at += count;
    if (count < wanted) return false;
  }
  return true;
}

Result<long> move_memory(Task& task, pid_t pid, uint64_t local_vectors, uint64_t local_count, uint64_t remote_vectors,
                         uint64_t remote_count, uint64_t flags, bool writes) {
  if (flags != 0 || local_count > 1024) return Errno(EINVAL);
  IoBuffer local = TRY(task.read_io_vectors(local_vectors, static_cast<int>(local_count)));
  const std::vector<UserSpan> remote = TRY(read_remote_vectors(task, remote_vectors, remote_count));
  if (local.empty() || remote.empty()) return 0L;
  std::weak_ptr<AddressSpace> memory;
  TRY(host_of(task, pid, memory));
  size_t done = 0;
  for (const UserSpan& span : remote) {
    const Result<bool> more = transfer(task, pid, memory, local, span, writes, &done);
    if (!more && done == 0) return more.error();
    if (!more || !*more || local.empty()) break;
  }
  return static_cast<long>(done);
}

Result<long> sys_process_vm_readv(Task& task, pid_t pid, UserPtr<void> local, uint64_t local_count, UserPtr<void> remote,
                                  uint64_t remote_count, uint64_t flags) {
  return move_memory(task, pid, local.address(), local_count, remote.address(), remote_count, flags, false);
}
Result<long> sys_process_vm_writev(Task& task, pid_t pid, UserPtr<void> local, uint64_t local_count, UserPtr<void> remote,
                                   uint64_t remote_count, uint64_t flags) {
  return move_memory(task, pid, local.address(), local_count, remote.address(), remote_count, flags, true);
}

// An order that tells nothing of where the kernel has its objects.
long compare(const void* one, const void* two) {
  static const uint64_t secret = [] {
    uint64_t value = 0x9e3779b97f4a7c15;
    [[maybe_unused]] const ssize_t ignored = getrandom(&value, sizeof value, 0);
    return value | 1;
  }();
  if (one == two) return 0;
  const auto hidden = [](const void* object) { return (reinterpret_cast<uint64_t>(object) ^ secret) * secret; };
  return hidden(one) < hidden(two) ? 1 : 2;
}

struct Shared {
  std::shared_ptr<FdTable> fds;
  const void *memory, *fs, *handlers, *task;
};

Result<Shared> shared_of(Task& task, pid_t pid) {
  std::lock_guard guard(task.kernel.tasks);
  const Task* other = TRY(find_locked(task, pid));
  if (!other->fds) return Errno(ESRCH);
  return Shared{other->fds, other->memory.get(), other->fs.get(), other->group->handlers.get(), other};
}

Result<long> sys_kcmp(Task& task, pid_t first_pid, pid_t second_pid, int type, unsigned long first_fd, unsigned long second_fd) {
  if (type < 0 || type >= KCMP_TYPES) return Errno(EINVAL);
  const Shared first = TRY(shared_of(task, first_pid)), second = TRY(shared_of(task, second_pid));
  switch (type) {
    case KCMP_FILE: {
      if (first_fd > INT32_MAX || second_fd > INT32_MAX) return Errno(EBADF);
      const FileRef one = TRY(first.fds->get(static_cast<int>(first_fd))), two = TRY(second.fds->get(static_cast<int>(second_fd)));
      return compare(one.get(), two.get());
    }
    case KCMP_VM:
      return compare(first.memory, second.memory);
    case KCMP_FILES:
      return compare(first.fds.get(), second.fds.get());
    case KCMP_FS:
      return compare(first.fs, second.fs);
    case KCMP_SIGHAND:
      return compare(first.handlers, second.handlers);
    case KCMP_IO:  // CLONE_IO shares nothing here: each thread has its own
      return compare(first.task, second.task);
    case KCMP_SYSVSEM:  // as of processes that have never used SEM_UNDO
      return 0L;
    case KCMP_EPOLL_TFD: {
      if (first_fd > INT32_MAX) return Errno(EBADF);
      const FileRef one = TRY(first.fds->get(static_cast<int>(first_fd)));
      const auto slot = TRY(task.read(UserPtr<kcmp_epoll_slot>(second_fd)));
      const auto epoll = std::dynamic_pointer_cast<Epoll>(TRY(second.fds->get(static_cast<int>(slot.efd))));
      if (!epoll) return Errno(EINVAL);
      const FileRef two = epoll->target(static_cast<int>(slot.tfd), slot.toff);
      if (!two) return Errno(ENOENT);
      return compare(one.get(), two.get());
    }
    default:
      return Errno(EOPNOTSUPP);
  }
}

}  // namespace

std::span<const SyscallRow> remote_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(process_vm_readv, 310, Full, ""),
      SYSCALL(process_vm_writev, 311, Full, ""),
      SYSCALL(kcmp, 312, Partial, "KCMP_SYSVSEM says \"equal\""),
  };
  return rows;
}

}  // namespace caisson::kernel
