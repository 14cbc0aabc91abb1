// Waiting for any of several files, and with another signal mask: what poll, select and epoll have in common.
#pragma once

#include <optional>
#include <span>

#include "kernel/abi/signal.h"
#include "kernel/task/task.h"
#include "kernel/vfs/file.h"

namespace caisson::kernel {

struct PollEntry {
  FileRef file;       // null: not waited for
  Events wanted = 0;  // POLLERR and POLLHUP are added
  Events got = 0;
};

// Fills in `got` and returns how many entries have any; waits until at least one has, or the deadline (0). kRestartNoHand: a signal.
Result<size_t> poll_files(Task& task, std::span<PollEntry> entries, Deadline deadline);

// A relative timeout in guest memory; a null pointer is never. EFAULT, EINVAL. (syscalls/event.cc)
Result<Deadline> deadline_of(Task& task, UserPtr<timespec> timeout);

// ppoll, pselect, epoll_pwait: another signal mask for the time of the call. set: from guest memory, where the pointer is not null (EINVAL
// for a wrong size). restore: unless a signal has ended the call; then its delivery does it.
Result<void> set_temporary_mask(Task& task, UserPtr<const abi::SigSet> mask, size_t size);
template <typename T>
Result<T> finish_temporary_mask(Task& task, Result<T> result);
void restore_mask(Task& task);

template <typename T>
Result<T> finish_temporary_mask(Task& task, Result<T> result) {
  if (result.ok() || (result.error().value != EINTR && !result.error().is_restart())) restore_mask(task);
  return result;
}

}  // namespace caisson::kernel
