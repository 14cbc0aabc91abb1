// seccomp(2): the guest's own filters. The order of the checks is Linux's (kernel/seccomp.c), so that the errors are.
#include "kernel/syscalls/seccomp.h"

#include <algorithm>

#include "kernel/platform/stub_thread.h"
#include "kernel/seccomp/enforce.h"
#include "kernel/seccomp/listener.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"

// Newer than Debian 12's headers (include/uapi/linux/seccomp.h).
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace caisson::kernel {
namespace {

constexpr unsigned kKnownFlags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
                                 SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC_ESRCH |
                                 SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;

// struct sock_fprog, with its padding.
struct FilterDescription {
  uint16_t length;
  uint16_t pad[3];
  uint64_t instructions;
};
static_assert(sizeof(FilterDescription) == 16);

Result<SeccompProgram> read_program(Task& task, uint64_t at) {
  const FilterDescription description = TRY(task.read(UserPtr<FilterDescription>(at)));
  if (description.length == 0 || description.length > BPF_MAXINSNS) return Errno(EINVAL);
  if (!task.creds->no_new_privileges && !task.creds->has_own(kCapSysAdmin)) return Errno(EACCES);
  std::vector<sock_filter> code(description.length);
  TRY(task.read_bytes(description.instructions, code.data(), code.size() * sizeof(sock_filter)));
  return SeccompProgram::verify(code);
}

Result<void> may_assign(const SeccompState* now, int mode) {
  if (now != nullptr && now->mode() != mode) return Errno(EINVAL);
  return {};
}

Result<long> set_strict(Task& task) {
  const auto now = task.seccomp.get();
  TRY(may_assign(now.get(), SECCOMP_MODE_STRICT));
  const auto state = SeccompState::strict();
  TRY(enforce_seccomp(task, *state));
  std::lock_guard guard(task.kernel.tasks);
  task.seccomp.set(state);
  return 0L;
}

// A thread whose filters are not the beginning of ours cannot be given ours; null: every thread can.
const Task* unfit_thread_locked(Task& task, const SeccompState* ours) {
  for (const Task* other : task.group->tasks) {
    if (other == &task) continue;
    const auto theirs = other->seccomp.get();
    if (!theirs) continue;
    if (theirs->mode() == SECCOMP_MODE_STRICT || ours == nullptr || !ours->extends(theirs.get())) return other;
  }
  return nullptr;
}

// Every thread of the process gets the state, and no_new_privs where we have it (seccomp(2), SECCOMP_FILTER_FLAG_TSYNC).
void give_to_all_locked(Task& task, const std::shared_ptr<const SeccompState>& state) {
  for (Task* other : task.group->tasks) {
    if (other == &task) continue;
    other->seccomp.set(state);
    if (other->stub) other->stub->answer_nothing();
    if (!task.creds->no_new_privileges || other->creds->no_new_privileges) continue;
    auto creds = std::make_shared<Credentials>(*other->creds);
    creds->no_new_privileges = true;
    other->creds = std::move(creds);
  }
}

Result<long> attach(Task& task, const std::shared_ptr<SeccompFilter>& filter, unsigned flags) {
  const auto now = task.seccomp.get();
  TRY(may_assign(now.get(), SECCOMP_MODE_FILTER));
  if (filter->listener && now && now->has_listener()) return Errno(EBUSY);
  const auto state = TRY(SeccompState::with(now.get(), filter));
  // Before any thread counts on it.
  TRY(enforce_seccomp(task, *state));
  std::lock_guard guard(task.kernel.tasks);
  if ((flags & SECCOMP_FILTER_FLAG_TSYNC) != 0) {
    if (const Task* unfit = unfit_thread_locked(task, now.get()); unfit != nullptr)
      return (flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH) != 0 ? Result<long>(Errno(ESRCH)) : Result<long>(unfit->tid);
    give_to_all_locked(task, state);
  }
  task.seccomp.set(state);
  return 0L;
}

Result<long> set_filter(Task& task, unsigned flags, uint64_t at) {
  const bool listens = (flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) != 0;
  if ((flags & ~kKnownFlags) != 0) return Errno(EINVAL);
  if (listens && (flags & SECCOMP_FILTER_FLAG_TSYNC) != 0 && (flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH) == 0) return Errno(EINVAL);
  if (!listens && (flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) != 0) return Errno(EINVAL);
  auto filter = std::make_shared<SeccompFilter>(TRY(read_program(task, at)));
  filter->log = (flags & SECCOMP_FILTER_FLAG_LOG) != 0;
  if (!listens) return attach(task, filter, flags);
  filter->listener = std::make_shared<SeccompListener>((flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) != 0);
  const long fd = TRY(install(task, std::make_shared<SeccompListenerFile>(filter->listener), true));
  const Result<long> attached = attach(task, filter, flags);
  if (attached && *attached == 0) return fd;
  if (auto file = task.fds->remove(static_cast<int>(fd))) (*file)->closed_by(task);
  return attached;
}

Result<long> action_available(Task& task, uint64_t at) {
  switch (TRY(task.read(UserPtr<uint32_t>(at)))) {
    case SECCOMP_RET_KILL_PROCESS:
    case SECCOMP_RET_KILL_THREAD:
    case SECCOMP_RET_TRAP:
    case SECCOMP_RET_ERRNO:
    case SECCOMP_RET_USER_NOTIF:
    case SECCOMP_RET_TRACE:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ALLOW:
      return 0L;
    default:
      return Errno(EOPNOTSUPP);
  }
}

Result<long> sys_seccomp(Task& task, unsigned operation, unsigned flags, UserPtr<void> arguments) {
  switch (operation) {
    case SECCOMP_SET_MODE_STRICT:
      if (flags != 0 || arguments) return Errno(EINVAL);
      return set_strict(task);
    case SECCOMP_SET_MODE_FILTER:
      return set_filter(task, flags, arguments.address());
    case SECCOMP_GET_ACTION_AVAIL:
      if (flags != 0) return Errno(EINVAL);
      return action_available(task, arguments.address());
    case SECCOMP_GET_NOTIF_SIZES: {
      if (flags != 0) return Errno(EINVAL);
      const seccomp_notif_sizes sizes{sizeof(seccomp_notif), sizeof(seccomp_notif_resp), sizeof(seccomp_data)};
      TRY(task.write(UserPtr<seccomp_notif_sizes>(arguments), sizes));
      return 0L;
    }
    default:
      return Errno(EINVAL);
  }
}

}  // namespace

Result<long> set_seccomp_mode(Task& task, unsigned long mode, unsigned long filter) {
  switch (mode) {
    case SECCOMP_MODE_STRICT:
      return set_strict(task);
    case SECCOMP_MODE_FILTER:
      return set_filter(task, 0, filter);
    default:
      return Errno(EINVAL);
  }
}

long seccomp_mode(Task& task) {
  const auto state = task.seccomp.get();
  return state ? state->mode() : SECCOMP_MODE_DISABLED;
}

std::span<const SyscallRow> seccomp_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(seccomp, 317, Partial, "of the notifications no SECCOMP_IOCTL_NOTIF_SET_FLAGS"),
  };
  return rows;
}

}  // namespace caisson::kernel
