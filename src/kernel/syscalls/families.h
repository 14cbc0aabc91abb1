// The families of system calls: one function each, defined at the end of syscalls/<family>.cc.
#pragma once

#include <span>
#include <vector>

namespace caisson::kernel {

struct SyscallRow;

#define CAISSON_SYSCALL_FAMILIES(X) \
  X(process)                        \
  X(identity)                       \
  X(memory)                         \
  X(signal)                         \
  X(time)                           \
  X(timer)                          \
  X(event)                          \
  X(aio)                            \
  X(inotify)                        \
  X(pipe)                           \
  X(socket)                         \
  X(transfer)                       \
  X(sched)                          \
  X(futex)                          \
  X(seccomp)                        \
  X(pidfd)                          \
  X(ptrace)                         \
  X(remote)                         \
  X(shm)                            \
  X(sem)                            \
  X(msg)                            \
  X(mqueue)                         \
  X(io)                             \
  X(descriptor)                     \
  X(path)                           \
  X(mount)                          \
  X(mount_tree)                     \
  X(mount_context)                  \
  X(namespace)                      \
  X(xattr)                          \
  X(system)

#define CAISSON_DECLARE_FAMILY(name) std::span<const SyscallRow> name##_syscalls();
CAISSON_SYSCALL_FAMILIES(CAISSON_DECLARE_FAMILY)
#undef CAISSON_DECLARE_FAMILY

inline std::vector<std::span<const SyscallRow>> syscall_families() {
  std::vector<std::span<const SyscallRow>> all;
#define CAISSON_ADD_FAMILY(name) all.push_back(name##_syscalls());
  CAISSON_SYSCALL_FAMILIES(CAISSON_ADD_FAMILY)
#undef CAISSON_ADD_FAMILY
  return all;
}

}  // namespace caisson::kernel
