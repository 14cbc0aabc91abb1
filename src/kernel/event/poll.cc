#include "kernel/event/poll.h"

#include <list>

#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

size_t look(std::span<PollEntry> entries) {
  size_t ready = 0;
  for (PollEntry& entry : entries) {
    if (!entry.file) continue;
    entry.got = entry.file->poll() & (entry.wanted | POLLERR | POLLHUP);
    ready += entry.got != 0;
  }
  return ready;
}

}  // namespace

Result<size_t> poll_files(Task& task, std::span<PollEntry> entries, Deadline deadline) {
  if (const size_t ready = look(entries); ready > 0) return ready;
  if (!deadline.is_never() && deadline.left() == 0) return size_t{0};
  std::list<TaskWaiter> waiters;
  for (PollEntry& entry : entries)
    if (entry.file && entry.file->wait_queue() != nullptr)
      waiters.emplace_back(task, *entry.file->wait_queue(), entry.wanted | POLLERR | POLLHUP);
  for (;;) {
    task.prepare_to_block();
    for (PollEntry& entry : entries)
      if (entry.file) entry.file->arm(entry.wanted);
    if (const size_t ready = look(entries); ready > 0) return ready;
    if (auto slept = task.block(deadline); !slept) {
      // What came in the last moment counts.
      if (const size_t ready = look(entries); ready > 0) return ready;
      if (slept.error() == Errno(ETIMEDOUT)) return size_t{0};
      return Errno(kRestartNoHand);
    }
  }
}

Result<void> set_temporary_mask(Task& task, UserPtr<const abi::SigSet> mask, size_t size) {
  if (!mask) return {};
  if (size != sizeof(abi::SigSet)) return Errno(EINVAL);
  const abi::SigSet wanted = TRY(task.read(mask));
  std::lock_guard guard(task.kernel.tasks);
  task.saved_mask = task.blocked;
  task.blocked = wanted & ~kUnblockable;
  // What the new mask lets through is looked at by block().
  task.attention = true;
  return {};
}

void restore_mask(Task& task) {
  if (!task.saved_mask) return;
  std::lock_guard guard(task.kernel.tasks);
  task.blocked = *task.saved_mask;
  task.saved_mask.reset();
  task.attention = true;
}

}  // namespace caisson::kernel
