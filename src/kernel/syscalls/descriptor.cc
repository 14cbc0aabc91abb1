// Descriptors: open, close, dup, fcntl.
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/openat2.h>

#include <algorithm>

#include "kernel/event/async_notice.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/unshare.h"
#include "kernel/vfs/locks.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

uint64_t most_files(Task& task) { return task.group->limit(RLIMIT_NOFILE).rlim_cur; }

Result<long> open_at(Task& task, int dirfd, UserPtr<const char> path, int flags, mode_t mode) {
  const std::string text = TRY(task.read_string(path));
  flags &= ~(kOpenTrusted | O_ASYNC);
  FileRef file = TRY(open_path(task, dirfd, text, flags, mode));
  return install(task, std::move(file), (flags & O_CLOEXEC) != 0);
}

Result<long> sys_open(Task& task, UserPtr<const char> path, int flags, unsigned mode) { return open_at(task, AT_FDCWD, path, flags, mode); }
Result<long> sys_openat(Task& task, Fd dirfd, UserPtr<const char> path, int flags, unsigned mode) {
  return open_at(task, number(dirfd), path, flags, mode);
}
Result<long> sys_creat(Task& task, UserPtr<const char> path, unsigned mode) {
  return open_at(task, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

Result<long> sys_openat2(Task& task, Fd dirfd, UserPtr<const char> path, UserPtr<const open_how> how, unsigned long size) {
  if (size < sizeof(open_how)) return Errno(EINVAL);
  if (size > sizeof(open_how)) return Errno(E2BIG);
  const open_how value = TRY(task.read(how));
  // Programs fall back to openat where the kernel does not know a restriction.
  if (value.resolve != 0) return Errno(ENOSYS);
  if (value.flags > 0x7fffff || (value.mode != 0 && (value.flags & (O_CREAT | O_TMPFILE)) == 0)) return Errno(EINVAL);
  return open_at(task, number(dirfd), path, static_cast<int>(value.flags), static_cast<mode_t>(value.mode));
}

Result<long> sys_close(Task& task, Fd fd) {
  const FileRef file = TRY(task.fds->remove(number(fd)));
  file->closed_by(task);
  return 0L;
}

Result<long> sys_close_range(Task& task, unsigned first, unsigned last, unsigned flags) {
  if (first > last || (flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)) != 0) return Errno(EINVAL);
  if ((flags & CLOSE_RANGE_UNSHARE) != 0) unshare_descriptors(task);
  if ((flags & CLOSE_RANGE_CLOEXEC) != 0) {
    task.fds->mark_range(first, last);
    return 0L;
  }
  for (const FileRef& file : task.fds->remove_range(first, last)) file->closed_by(task);
  return 0L;
}

Result<long> sys_dup(Task& task, Fd fd) { return install(task, TRY(task.fds->get(number(fd))), false); }

Result<long> duplicate(Task& task, Fd from, Fd to, bool close_on_exec) {
  FileRef file = TRY(task.fds->get(number(from)));
  const FileRef old = TRY(task.fds->put(number(to), std::move(file), close_on_exec, most_files(task)));
  if (old) old->closed_by(task);
  return number(to);
}

Result<long> sys_dup2(Task& task, Fd from, Fd to) {
  if (from == to) {
    TRY(task.fds->get(number(from)));
    return number(to);
  }
  return duplicate(task, from, to, false);
}

Result<long> sys_dup3(Task& task, Fd from, Fd to, int flags) {
  if ((flags & ~O_CLOEXEC) != 0 || from == to) return Errno(EINVAL);
  return duplicate(task, from, to, (flags & O_CLOEXEC) != 0);
}

Result<long> sys_fcntl(Task& task, Fd fd, int command, unsigned long argument) {
  constexpr int kSettable = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;
  const FileRef file = TRY(task.fds->get(number(fd)));
  switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
      if (argument >= most_files(task)) return Errno(EINVAL);
      return static_cast<long>(TRY(task.fds->add(file, command == F_DUPFD_CLOEXEC, most_files(task), static_cast<int>(argument))));
    case F_GETFD:
      return TRY(task.fds->close_on_exec(number(fd))) ? FD_CLOEXEC : 0;
    case F_SETFD:
      TRY(task.fds->set_close_on_exec(number(fd), (argument & FD_CLOEXEC) != 0));
      return 0L;
    case F_GETFL:
      return file->flags() | (file->path() && (file->flags() & O_PATH) == 0 ? 0100000 /* O_LARGEFILE */ : 0);
  }
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  if (is_lock_command(command)) return lock_command(task, file, command, argument);
  if (is_owner_command(command)) return owner_command(task, file, command, argument);
  switch (command) {
    case F_SETFL:
      if (can_notify(*file)) set_async(file, number(fd), (argument & O_ASYNC) != 0);
      file->set_flags((file->flags() & ~kSettable) | (static_cast<int>(argument) & kSettable));
      return 0L;
    default:
      return file->control(task, command, argument);
  }
}

Result<long> sys_flock(Task& task, Fd fd, int operation) { return flock_file(task, TRY(task.fds->get_usable(number(fd))), operation); }

Result<long> sys_umask(Task& task, unsigned mask) { return task.fs->umask.exchange(mask & 0777); }

}  // namespace

std::span<const SyscallRow> descriptor_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(open, 2, Full, ""),
      SYSCALL(close, 3, Full, ""),
      SYSCALL(dup, 32, Full, ""),
      SYSCALL(dup2, 33, Full, ""),
      SYSCALL(fcntl, 72, Partial, "no leases, no F_NOTIFY"),
      SYSCALL(flock, 73, Partial, "between the processes of one sandbox"),
      SYSCALL(creat, 85, Full, ""),
      SYSCALL(umask, 95, Full, ""),
      SYSCALL(openat, 257, Full, ""),
      SYSCALL(dup3, 292, Full, ""),
      SYSCALL(close_range, 436, Full, ""),
      SYSCALL(openat2, 437, Partial, "no RESOLVE_ flags"),
  };
  return rows;
}

}  // namespace caisson::kernel
