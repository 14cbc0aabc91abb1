// pipe, pipe2.
#include "kernel/ipc/pipe.h"

#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"

namespace caisson::kernel {
namespace {

struct TwoFds {
  int reader, writer;
};

Result<long> sys_pipe2(Task& task, UserPtr<TwoFds> to, int flags) {
  if ((flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT | 0x80 /* O_NOTIFICATION_PIPE */)) != 0) return Errno(EINVAL);
  if ((flags & 0x80) != 0) return Errno(ENOPKG);
  auto [reader, writer] = make_pipe(flags);
  const bool close_on_exec = (flags & O_CLOEXEC) != 0;
  TwoFds fds{};
  fds.reader = static_cast<int>(TRY(install(task, reader, close_on_exec)));
  Result<long> second = install(task, writer, close_on_exec);
  if (!second) {
    (void)task.fds->remove(fds.reader);
    return second.error();
  }
  fds.writer = static_cast<int>(*second);
  if (Result<void> written = task.write(to, fds); !written) {
    (void)task.fds->remove(fds.reader);
    (void)task.fds->remove(fds.writer);
    return written.error();
  }
  return 0L;
}

Result<long> sys_pipe(Task& task, UserPtr<TwoFds> to) { return sys_pipe2(task, to, 0); }

}  // namespace

std::span<const SyscallRow> pipe_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(pipe, 22, Full, ""),
      SYSCALL(pipe2, 293, Partial, "no O_NOTIFICATION_PIPE"),
  };
  return rows;
}

}  // namespace caisson::kernel
