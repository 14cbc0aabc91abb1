// unshare and setns.
#include "kernel/event/pidfd.h"
#include "kernel/fs/nsfs/nsfs.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/task/unshare.h"

namespace caisson::kernel {
namespace {

Result<long> sys_unshare(Task& task, unsigned long flags) {
  TRY(unshare(task, flags));
  return 0L;
}

Result<long> sys_setns(Task& task, Fd fd, int type) {
  const FileRef file = TRY(task.fds->get_usable(number(fd)));
  if (const auto pidfd = std::dynamic_pointer_cast<PidFd>(file)) {
    TRY(enter_namespaces_of(task, *pidfd->group(), static_cast<uint64_t>(static_cast<unsigned>(type))));
    return 0L;
  }
  const NamespaceRef space = namespace_of_file(*file);
  if (!space || (type != 0 && static_cast<uint64_t>(type) != namespace_flag(space->kind))) return Errno(EINVAL);
  TRY(enter_namespace(task, space));
  return 0L;
}

}  // namespace

std::span<const SyscallRow> namespace_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(unshare, 272, Partial, "no time namespaces"),
      SYSCALL(setns, 308, Partial, "no other time namespace than the sandbox's"),
  };
  return rows;
}

}  // namespace caisson::kernel
