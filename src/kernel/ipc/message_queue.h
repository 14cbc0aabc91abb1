// POSIX message queues: mq_overview(7).
//
// Locks: MessageQueue::lock, of the level of inodes; MessageQueues' own, above it.
#pragma once

#include <deque>
#include <map>

#include "kernel/held.h"
#include "kernel/ipc/limits.h"
#include "kernel/task/task.h"
#include "kernel/vfs/anonymous.h"

namespace caisson::kernel {

// struct mq_attr.
struct QueueAttributes {
  int64_t flags, most_messages, message_size, messages;
  int64_t reserved[4];
};

class MessageQueues;

class MessageQueue {
 public:
  struct Message {
    unsigned priority = 0;
    std::string text;
    HeldBytes held;
  };
  // Who is to be told of the first message in an empty queue.
  struct Notice {
    std::weak_ptr<ThreadGroup> group;
    pid_t pid = 0;
    int signal = 0;  // 0: nobody is told, the place is taken
    uint64_t value = 0;
  };
  // With the attributes (null: the namespace's defaults), of the task's fsuid. EINVAL; EMFILE: its user has no more bytes
  // (RLIMIT_MSGQUEUE).
  static Result<std::shared_ptr<MessageQueue>> make(Task& task, MessageQueues& space, mode_t permissions,
                                                    const std::optional<QueueAttributes>& wanted);
  MessageQueue() = default;
  ~MessageQueue();

  static constexpr uint64_t kFileSize = 80;  // of every file that stands for one, as Linux has it, whatever is read from it
  int64_t most_messages = 10, message_size = 8192;
  const uint64_t inode = next_anonymous_inode();
  WaitQueue queue;
  std::mutex lock;
  mode_t mode = 0600;  // without the type
  uid_t uid = 0;
  gid_t gid = 0;
  timespec accessed{}, changed{};
  std::map<unsigned, std::deque<Message>, std::greater<>> messages;  // greatest priority first
  int64_t count = 0;
  int readers_waiting = 0;
  std::optional<Notice> notice;

 private:
  std::shared_ptr<std::atomic<uint64_t>> users_bytes_;  // what it counts against
  uint64_t bytes_ = 0;
};

class MessageQueueFile : public AnonymousFile {
 public:
  MessageQueueFile(std::shared_ptr<MessageQueue> queue, int flags)
      : AnonymousFile("mqueue", S_IFREG | 0600, flags, queue->inode), queue_(std::move(queue)) {}
  Events poll() override;
  WaitQueue* wait_queue() override { return &queue_->queue; }
  // What is in it, and who waits to be told, in words.
  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override;
  bool seekable() const override { return true; }
  Result<struct statx> stat() override;
  const std::shared_ptr<MessageQueue>& queue() const { return queue_; }

 private:
  const std::shared_ptr<MessageQueue> queue_;
};

// Queues by name, and what the whole IPC namespace allows.
class MessageQueues {
 public:
  // Those of the task's IPC namespace.
  static MessageQueues& get(Task& task);
  static MessageQueues& of(IpcNamespace& space);
  std::shared_ptr<MessageQueue> find(const std::string& name);  // null: there is none
  // EEXIST; ENOSPC: there are as many as may be (/proc/sys/fs/mqueue/queues_max).
  Result<void> add(Task& task, const std::string& name, std::shared_ptr<MessageQueue> queue);
  // Whoever has it open keeps it. only: this one, not another that has the name by now. ENOENT.
  Result<void> remove(const std::string& name, const MessageQueue* only = nullptr);
  // Bytes of a user's queues.
  std::shared_ptr<std::atomic<uint64_t>> bytes_of(uid_t user);

  std::mutex lock;
  std::map<std::string, std::shared_ptr<MessageQueue>> names;
  std::map<uid_t, std::shared_ptr<std::atomic<uint64_t>>> bytes;
  IpcLimits limits;
};

}  // namespace caisson::kernel
