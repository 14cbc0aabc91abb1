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
    int signal = 0;  // 0: nobody is told, the place is taken
    uint64_t value = 0;
  };
  int64_t most_messages = 10, message_size = 8192;
  uint32_t mode = 0600;
  uid_t uid = 0;
  gid_t gid = 0;
  const uint64_t inode = next_anonymous_inode();
  WaitQueue queue;
  std::mutex lock;
  std::map<unsigned, std::deque<Message>, std::greater<>> messages;  // greatest priority first
  int64_t count = 0;
  int readers_waiting = 0;
  std::optional<Notice> notice;
};

class MessageQueueFile : public AnonymousFile {
 public:
  MessageQueueFile(std::shared_ptr<MessageQueue> queue, int flags)
      : AnonymousFile("mqueue", S_IFREG | 0600, flags, queue->inode), queue_(std::move(queue)) {}
  Events poll() override;
  WaitQueue* wait_queue() override { return &queue_->queue; }
  const std::shared_ptr<MessageQueue>& queue() const { return queue_; }

 private:
  const std::shared_ptr<MessageQueue> queue_;
};

// Queues by name, and what the whole IPC namespace allows.
class MessageQueues {
 public:
  // Those of the task's IPC namespace.
  static MessageQueues& get(Task& task);
  std::mutex lock;
  std::map<std::string, std::shared_ptr<MessageQueue>> names;
  IpcLimits limits;
};

}  // namespace caisson::kernel
