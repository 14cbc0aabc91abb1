// POSIX message queues.
#include <mqueue.h>
#include <signal.h>

#include "kernel/ipc/limits.h"
#include "kernel/ipc/message_queue.h"
#include "kernel/signal/send.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/task/kernel.h"
#include "kernel/time/clock.h"
#include "kernel/vfs/blocking.h"

namespace caisson::kernel {

namespace {

constexpr unsigned kPriorities = 32768;

// The system call has the name without the slash.
Result<std::string> name_of(Task& task, UserPtr<const char> at) {
  std::string name = TRY(task.read_string(at));
  if (name.size() > 255) return Errno(ENAMETOOLONG);
  if (name.empty()) return Errno(ENOENT);
  if (name.find('/') != name.npos || name == "." || name == "..") return Errno(EACCES);
  return name;
}

Result<void> may(Task& task, MessageQueue& queue, int access) {
  const Credentials& creds = *task.creds;
  std::lock_guard guard(queue.lock);
  unsigned granted = queue.mode;
  if (creds.fsuid == queue.uid)
    granted >>= 6;
  else if (creds.in_group(queue.gid))
    granted >>= 3;
  const unsigned wanted = access == O_RDONLY ? 4 : access == O_WRONLY ? 2 : 6;
  if ((wanted & ~granted) == 0 || creds.has(kCapDacOverride)) return {};
  return Errno(EACCES);
}

Result<long> sys_mq_open(Task& task, UserPtr<const char> at, int flags, unsigned mode, UserPtr<const QueueAttributes> attributes) {
  const std::string name = TRY(name_of(task, at));
  MessageQueues& all = MessageQueues::get(task);
  std::shared_ptr<MessageQueue> queue = all.find(name);
  if (queue && (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) return Errno(EEXIST);
  if (!queue && (flags & O_CREAT) == 0) return Errno(ENOENT);
  if (queue) {
    TRY(may(task, *queue, flags & O_ACCMODE));
  } else {
    std::optional<QueueAttributes> wanted;
    if (attributes) wanted = TRY(task.read(attributes));
    const unsigned permissions = mode & ~static_cast<unsigned>(task.fs->umask.load()) & 0777;
    queue = TRY(MessageQueue::make(task, all, permissions, wanted));
    const Result<void> added = all.add(task, name, queue);
    // Somebody else was faster.
    if (!added && added.error() == Errno(EEXIST) && (flags & O_EXCL) == 0) return Errno(kRestartNoHand);
    TRY(added);
  }
  return install(task, std::make_shared<MessageQueueFile>(queue, flags & (O_ACCMODE | O_NONBLOCK)), (flags & O_CLOEXEC) != 0);
}

Result<long> sys_mq_unlink(Task& task, UserPtr<const char> at) {
  const std::string name = TRY(name_of(task, at));
  MessageQueues& all = MessageQueues::get(task);
  const std::shared_ptr<MessageQueue> queue = all.find(name);
  if (!queue) return Errno(ENOENT);
  {
    std::lock_guard guard(queue->lock);
    if (task.creds->fsuid != queue->uid && !task.creds->has(kCapFowner)) return Errno(EACCES);
  }
  TRY(all.remove(name, queue.get()));
  return 0L;
}

// An absolute time of CLOCK_REALTIME.
Result<Deadline> deadline_of(Task& task, UserPtr<const timespec> at) {
  if (!at) return Deadline::never();
  return Deadline{monotonic_at(CLOCK_REALTIME, TRY(nanoseconds_of(TRY(task.read(at)))))};
}

// mq_timedsend and mq_timedreceive say ETIMEDOUT where blocking_op says EAGAIN.
template <typename Operation>
Result<void> wait_for(Task& task, MessageQueueFile& file, Events events, Deadline deadline, Operation&& operation) {
  Result<void> done = blocking_op(task, file, events, operation, false, deadline);
  if (!done && done.error() == Errno(EAGAIN) && !file.nonblocking()) return Errno(ETIMEDOUT);
  return done;
}

void tell(Kernel& kernel, const MessageQueue::Notice& notice, Task& sender) {
  const auto group = notice.group.lock();
  if (!group || notice.signal == 0) return;
  abi::SigInfo info;
  info.signo = notice.signal;
  info.code = SI_MESGQ;
  info.rt.pid = sender.group->pid;
  info.rt.uid = sender.creds->uid;
  info.rt.value = notice.value;
  std::lock_guard guard(kernel.tasks);
  send_to_group_locked(*group, info);
}

Result<long> sys_mq_timedsend(Task& task, Fd fd, UserPtr<const char> from, uint64_t size, unsigned priority, UserPtr<const timespec> at) {
  if (priority >= kPriorities) return Errno(EINVAL);
  const Deadline deadline = TRY(deadline_of(task, at));
  const auto file = TRY(file_as<MessageQueueFile>(task, fd, EBADF));
  if (!file->writable()) return Errno(EBADF);
  MessageQueue& queue = *file->queue();
  if (size > static_cast<uint64_t>(queue.message_size)) return Errno(EMSGSIZE);
  MessageQueue::Message message{priority, std::string(size, '\0'), TRY(HeldBytes::take(sizeof message + size))};
  TRY(task.read_bytes(from.address(), message.text.data(), size));
  std::optional<MessageQueue::Notice> notice;
  TRY(wait_for(task, *file, POLLOUT, deadline, [&]() -> Result<void> {
    std::lock_guard guard(queue.lock);
    if (queue.count >= queue.most_messages) return Errno(EAGAIN);
    queue.messages[priority].push_back(std::move(message));
    // A reader that waits takes it; nobody is told.
    if (queue.count++ == 0 && queue.readers_waiting == 0) std::swap(notice, queue.notice);
    return {};
  }));
  queue.queue.wake(POLLIN | POLLRDNORM);
  if (notice) tell(task.kernel, *notice, task);
  return 0L;
}

Result<long> sys_mq_timedreceive(Task& task, Fd fd, UserPtr<char> to, uint64_t size, UserPtr<unsigned> priority,
                                 UserPtr<const timespec> at) {
  const Deadline deadline = TRY(deadline_of(task, at));
  const auto file = TRY(file_as<MessageQueueFile>(task, fd, EBADF));
  if (!file->readable()) return Errno(EBADF);
  MessageQueue& queue = *file->queue();
  if (size < static_cast<uint64_t>(queue.message_size)) return Errno(EMSGSIZE);
  MessageQueue::Message got;
  auto take = [&]() -> Result<void> {
    std::lock_guard guard(queue.lock);
    if (queue.count == 0) return Errno(EAGAIN);
    auto first = queue.messages.begin();
    got = std::move(first->second.front());
    first->second.pop_front();
    if (first->second.empty()) queue.messages.erase(first);
    --queue.count;
    return {};
  };
  {
    std::lock_guard guard(queue.lock);
    ++queue.readers_waiting;
  }
  const Result<void> taken = wait_for(task, *file, POLLIN, deadline, take);
  {
    std::lock_guard guard(queue.lock);
    --queue.readers_waiting;
  }
  if (!taken) return taken.error();
  queue.queue.wake(POLLOUT | POLLWRNORM);
  TRY(task.write_bytes(to.address(), got.text.data(), got.text.size()));
  if (priority) TRY(task.write(priority, got.priority));
  return static_cast<long>(got.text.size());
}

// struct sigevent as the system call has it.
struct SigEvent {
  uint64_t value;
  int32_t signal, notify;
  char pad[48];
};
static_assert(sizeof(SigEvent) == 64);

Result<long> sys_mq_notify(Task& task, Fd fd, UserPtr<const SigEvent> at) {
  const auto file = TRY(file_as<MessageQueueFile>(task, fd, EBADF));
  MessageQueue& queue = *file->queue();
  std::optional<MessageQueue::Notice> wanted;
  if (at) {
    const SigEvent event = TRY(task.read(at));
    if (event.notify == SIGEV_THREAD) return Errno(ENOSYS);
    if (event.notify != SIGEV_SIGNAL && event.notify != SIGEV_NONE) return Errno(EINVAL);
    if (event.notify == SIGEV_SIGNAL && (event.signal < 1 || event.signal > abi::kSignals)) return Errno(EINVAL);
    wanted = MessageQueue::Notice{task.group, task.group->pid, event.notify == SIGEV_SIGNAL ? event.signal : 0, event.value};
  }
  std::lock_guard guard(queue.lock);
  const bool taken = queue.notice && !queue.notice->group.expired();
  if (wanted && taken) return Errno(EBUSY);
  if (wanted || (taken && queue.notice->group.lock() == task.group)) queue.notice = wanted;
  return 0L;
}

Result<long> sys_mq_getsetattr(Task& task, Fd fd, UserPtr<const QueueAttributes> from, UserPtr<QueueAttributes> to) {
  const auto file = TRY(file_as<MessageQueueFile>(task, fd, EBADF));
  QueueAttributes wanted{};
  if (from) {
    wanted = TRY(task.read(from));
    if ((wanted.flags & ~static_cast<int64_t>(O_NONBLOCK)) != 0) return Errno(EINVAL);
  }
  QueueAttributes old{};
  old.flags = file->flags() & O_NONBLOCK;
  {
    std::lock_guard guard(file->queue()->lock);
    old.most_messages = file->queue()->most_messages;
    old.message_size = file->queue()->message_size;
    old.messages = file->queue()->count;
  }
  if (from) file->set_flags((file->flags() & ~O_NONBLOCK) | static_cast<int>(wanted.flags));
  if (to) TRY(task.write(to, old));
  return 0L;
}

}  // namespace

std::span<const SyscallRow> mqueue_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(mq_open, 240, Full, ""),
      SYSCALL(mq_unlink, 241, Full, ""),
      SYSCALL(mq_timedsend, 242, Full, ""),
      SYSCALL(mq_timedreceive, 243, Full, ""),
      SYSCALL(mq_notify, 244, Partial, "no SIGEV_THREAD"),
      SYSCALL(mq_getsetattr, 245, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
