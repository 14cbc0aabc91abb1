// inotify(7).
#include "kernel/event/inotify.h"

#include <sys/inotify.h>

#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

constexpr uint32_t kKnown = IN_ALL_EVENTS | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED | IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK |
                            IN_MASK_ADD | IN_MASK_CREATE | IN_ISDIR | IN_ONESHOT;

Result<long> sys_inotify_init1(Task& task, int flags) {
  if ((flags & ~(IN_CLOEXEC | IN_NONBLOCK)) != 0) return Errno(EINVAL);
  return install(task, TRY(Inotify::create(task.creds->uid, O_RDONLY | (flags & IN_NONBLOCK))), (flags & IN_CLOEXEC) != 0);
}

Result<long> sys_inotify_init(Task& task) { return sys_inotify_init1(task, 0); }

Result<long> sys_inotify_add_watch(Task& task, Fd fd, UserPtr<const char> path, unsigned mask) {
  if ((mask & ~kKnown) != 0 || (mask & kKnown) == 0) return Errno(EINVAL);
  TRY(task.fds->get_usable(number(fd)));
  if ((mask & IN_MASK_ADD) != 0 && (mask & IN_MASK_CREATE) != 0) return Errno(EINVAL);
  const auto inotify = TRY(file_as<Inotify>(task, fd, EINVAL));
  const unsigned flags = ((mask & IN_DONT_FOLLOW) != 0 ? kWalkNoFollow : 0) | ((mask & IN_ONLYDIR) != 0 ? kWalkFolder : 0);
  const Path place = TRY(walk(task, AT_FDCWD, TRY(task.read_string(path)), flags));
  TRY(permission(task, *place.inode(), R_OK));
  return static_cast<long>(TRY(inotify->add_watch(task, place, mask)));
}

Result<long> sys_inotify_rm_watch(Task& task, Fd fd, int watch) {
  TRY(TRY(file_as<Inotify>(task, fd, EINVAL))->remove_watch(watch));
  return 0L;
}

}  // namespace

std::span<const SyscallRow> inotify_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(inotify_init, 253, Full, ""),
      SYSCALL(inotify_add_watch, 254, Full, ""),
      SYSCALL(inotify_rm_watch, 255, Full, ""),
      SYSCALL(inotify_init1, 294, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
