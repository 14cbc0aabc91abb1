#include "kernel/ipc/message_queue.h"

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>

#include "kernel/fs/common/node.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

constexpr int64_t kHardMessages = 65536, kHardSize = 1 << 24, kMostBytes = 64 << 20;
constexpr uint64_t kMessageBytes = 48, kPriorityBytes = 48;  // what a message needs beside its text (getrlimit(2), RLIMIT_MSGQUEUE)

}  // namespace

MessageQueues& MessageQueues::of(IpcNamespace& space) { return space.part<MessageQueues>(IpcNamespace::PosixQueues); }
MessageQueues& MessageQueues::get(Task& task) { return of(*task.spaces->ipc); }

std::shared_ptr<MessageQueue> MessageQueues::find(const std::string& name) {
  std::lock_guard guard(lock);
  const auto found = names.find(name);
  return found == names.end() ? nullptr : found->second;
}

Result<void> MessageQueues::add(Task& task, const std::string& name, std::shared_ptr<MessageQueue> queue) {
  std::lock_guard guard(lock);
  if (names.contains(name)) return Errno(EEXIST);
  if (names.size() >= limits[IpcLimit::PosixQueues] && !task.creds->has(kCapSysResource)) return Errno(ENOSPC);
  names[name] = std::move(queue);
  return {};
}

Result<void> MessageQueues::remove(const std::string& name, const MessageQueue* only) {
  std::shared_ptr<MessageQueue> old;  // freed outside the lock
  std::lock_guard guard(lock);
  const auto found = names.find(name);
  if (found == names.end() || (only != nullptr && found->second.get() != only)) return Errno(ENOENT);
  old = std::move(found->second);
  names.erase(found);
  return {};
}

std::shared_ptr<std::atomic<uint64_t>> MessageQueues::bytes_of(uid_t user) {
  std::lock_guard guard(lock);
  auto& slot = bytes[user];
  if (!slot) slot = std::make_shared<std::atomic<uint64_t>>(0);
  return slot;
}

Result<std::shared_ptr<MessageQueue>> MessageQueue::make(Task& task, MessageQueues& space, mode_t permissions,
                                                         const std::optional<QueueAttributes>& wanted) {
  auto queue = std::make_shared<MessageQueue>();
  const auto limit = [&](IpcLimit which) { return static_cast<int64_t>(space.limits[which]); };
  queue->most_messages = std::min(limit(IpcLimit::PosixMessagesDefault), limit(IpcLimit::PosixMessages));
  queue->message_size = std::min(limit(IpcLimit::PosixMessageBytesDefault), limit(IpcLimit::PosixMessageBytes));
  if (wanted) {
    const bool privileged = task.creds->has(kCapSysResource);
    const int64_t messages = privileged ? kHardMessages : limit(IpcLimit::PosixMessages);
    const int64_t size = privileged ? kHardSize : limit(IpcLimit::PosixMessageBytes);
    if (wanted->most_messages <= 0 || wanted->message_size <= 0 || wanted->most_messages > messages || wanted->message_size > size)
      return Errno(EINVAL);
    queue->most_messages = wanted->most_messages;
    queue->message_size = wanted->message_size;
  }
  if (queue->most_messages * queue->message_size > kMostBytes) return Errno(EMFILE);
  const auto messages = static_cast<uint64_t>(queue->most_messages);
  queue->bytes_ =
      messages * (static_cast<uint64_t>(queue->message_size) + kMessageBytes) + std::min<uint64_t>(messages, 32768) * kPriorityBytes;
  queue->users_bytes_ = space.bytes_of(task.creds->fsuid);
  const uint64_t all = queue->users_bytes_->fetch_add(queue->bytes_) + queue->bytes_;
  if (all > task.group->limit(RLIMIT_MSGQUEUE).rlim_cur && !task.creds->has(kCapSysResource)) return Errno(EMFILE);
  queue->mode = permissions & 07777;
  queue->uid = task.creds->fsuid;
  queue->gid = task.creds->fsgid;
  queue->accessed = queue->changed = now_realtime();
  return queue;
}

MessageQueue::~MessageQueue() {
  if (users_bytes_) *users_bytes_ -= bytes_;
}

Events MessageQueueFile::poll() {
  std::lock_guard guard(queue_->lock);
  Events events = 0;
  if (queue_->count > 0) events |= POLLIN | POLLRDNORM;
  if (queue_->count < queue_->most_messages) events |= POLLOUT | POLLWRNORM;
  return events;
}

Result<struct statx> MessageQueueFile::stat() {
  struct statx stat = TRY(AnonymousFile::stat());
  std::lock_guard guard(queue_->lock);
  stat.stx_mode = static_cast<uint16_t>(S_IFREG | queue_->mode);
  stat.stx_uid = queue_->uid;
  stat.stx_gid = queue_->gid;
  stat.stx_size = MessageQueue::kFileSize;
  return stat;
}

Result<size_t> MessageQueueFile::read(Task&, IoBuffer& buffer, off_t offset) {
  uint64_t size = 0;
  std::optional<MessageQueue::Notice> notice;
  {
    std::lock_guard guard(queue_->lock);
    for (const auto& [priority, messages] : queue_->messages)
      for (const MessageQueue::Message& message : messages) size += message.text.size();
    if (queue_->notice && !queue_->notice->group.expired()) notice = queue_->notice;
  }
  const int signal = notice ? notice->signal : 0;
  char text[96];
  const int length = snprintf(text, sizeof text, "QSIZE:%-10lu NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n", size,
                              notice && signal == 0 ? SIGEV_NONE : SIGEV_SIGNAL, signal, notice ? notice->pid : 0);
  if (offset < 0 || offset >= length) return size_t{0};
  return buffer.put(text + offset, static_cast<size_t>(length - offset));
}

}  // namespace caisson::kernel
