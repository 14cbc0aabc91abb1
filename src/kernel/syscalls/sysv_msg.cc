// System V message queues.
#include <inttypes.h>
#include <sys/msg.h>

#include <list>

#include "kernel/held.h"
#include "kernel/ipc/limits.h"
#include "kernel/ipc/listing.h"
#include "kernel/ipc/sysv.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/current.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

constexpr size_t kMostMessage = 64 << 20;  // whatever the namespace allows: it is copied in one piece

struct Message {
  int64_t type = 0;
  std::string text;
  HeldBytes held;
};

struct Queue {
  IpcPermissions permissions;
  std::list<Message> messages;
  size_t bytes = 0, room = 0;
  int64_t sent_at = 0, received_at = 0, changed_at = realtime_now() / 1'000'000'000;
  pid_t last_sender = 0, last_receiver = 0;
  bool removed = false;
  WaitQueue queue;
};
using QueueRef = std::shared_ptr<Queue>;

// Of the task that the calling thread serves.
IpcTable<Queue>& queues() { return current_task()->spaces->ipc->part<IpcTable<Queue>>(IpcNamespace::Messages, IpcLimit::Queues); }
const IpcLimits& limits_for(Task& task) { return IpcLimits::of(*task.spaces->ipc); }

Result<QueueRef> queue_of(Task& task, int id, unsigned wanted) {
  std::lock_guard guard(queues().lock);
  QueueRef queue = queues().find(id);
  if (!queue) return Errno(EINVAL);
  TRY(ipc_access(task, queue->permissions, wanted));
  return queue;
}

Result<long> sys_msgget(Task& task, int key, int flags) {
  return static_cast<long>(TRY(queues().get(
      task, key, flags,
      [&] {
        auto queue = std::make_shared<Queue>();
        queue->room = limits_for(task)[IpcLimit::QueueBytes];
        return Result<QueueRef>(std::move(queue));
      },
      [](const Queue&) { return Result<void>(); })));
}

// Tries under the table's lock until it answers other than EAGAIN; EIDRM where the queue goes meanwhile.
template <typename Operation>
Result<long> wait_for(Task& task, Queue& queue, bool dont_wait, int not_now, Operation&& operation) {
  TaskWaiter waiter(task, queue.queue, 0);
  for (;;) {
    task.prepare_to_block();
    {
      std::lock_guard guard(queues().lock);
      if (queue.removed) return Errno(EIDRM);
      Result<long> done = operation();
      if (done.ok() || done.error() != Errno(EAGAIN)) return done;
    }
    if (dont_wait) return Errno(not_now);
    if (Result<void> slept = task.block(); !slept) return Errno(kRestartNoHand);
  }
}

Result<long> sys_msgsnd(Task& task, int id, UserPtr<const int64_t> at, uint64_t size, int flags) {
  if (size > limits_for(task)[IpcLimit::MessageBytes] || id < 0) return Errno(EINVAL);
  if (size > kMostMessage) return Errno(ENOMEM);
  Message message;
  message.type = TRY(task.read(at));
  if (message.type < 1) return Errno(EINVAL);
  message.held = TRY(HeldBytes::take(sizeof message + size));
  message.text.resize(size);
  TRY(task.read_bytes(at.address() + sizeof(int64_t), message.text.data(), size));
  const QueueRef queue = TRY(queue_of(task, id, 2));
  const long done = TRY(wait_for(task, *queue, (flags & IPC_NOWAIT) != 0, EAGAIN, [&]() -> Result<long> {
    if (queue->bytes + size > queue->room || queue->messages.size() >= queue->room) return Errno(EAGAIN);
    queue->bytes += size;
    queue->messages.push_back(std::move(message));
    queue->last_sender = task.group->pid;
    queue->sent_at = realtime_now() / 1'000'000'000;
    return 0L;
  }));
  queue->queue.wake(~0U);
  return done;
}

bool fits(const Message& message, int64_t type, int flags) {
  if (type == 0) return true;
  if (type > 0) return (message.type == type) != ((flags & MSG_EXCEPT) != 0);
  return message.type <= -type;
}

Result<long> sys_msgrcv(Task& task, int id, UserPtr<int64_t> to, uint64_t size, int64_t type, int flags) {
  if (static_cast<int64_t>(size) < 0 || id < 0) return Errno(EINVAL);
  constexpr int kCopy = 040000;
  if ((flags & kCopy) != 0) return Errno(ENOSYS);
  if (type == INT64_MIN) type = -INT64_MAX;
  const QueueRef queue = TRY(queue_of(task, id, 4));
  Message got;
  TRY(wait_for(task, *queue, (flags & IPC_NOWAIT) != 0, ENOMSG, [&]() -> Result<long> {
    auto found = queue->messages.end();
    for (auto it = queue->messages.begin(); it != queue->messages.end(); ++it) {
      if (!fits(*it, type, flags)) continue;
      // Negative: the lowest type first.
      if (found == queue->messages.end() || (type < 0 && it->type < found->type)) found = it;
      if (type >= 0) break;
    }
    if (found == queue->messages.end()) return Errno(EAGAIN);
    if (found->text.size() > size && (flags & MSG_NOERROR) == 0) return Errno(E2BIG);
    got = std::move(*found);
    queue->bytes -= got.text.size();
    queue->messages.erase(found);
    queue->last_receiver = task.group->pid;
    queue->received_at = realtime_now() / 1'000'000'000;
    return 0L;
  }));
  queue->queue.wake(~0U);
  const size_t put = std::min<size_t>(size, got.text.size());
  TRY(task.write(to, got.type));
  TRY(task.write_bytes(to.address() + sizeof(int64_t), got.text.data(), put));
  return static_cast<long>(put);
}

// struct msqid64_ds of x86-64.
struct QueueStatus {
  IpcPermissions permissions;
  int64_t sent_at, received_at, changed_at;
  uint64_t bytes, count, room;
  int32_t last_sender, last_receiver;
  uint64_t unused[2];
};
static_assert(sizeof(QueueStatus) == 120);

Result<long> sys_msgctl(Task& task, int id, int command, UserPtr<QueueStatus> at) {
  QueueStatus status{};
  if (command == IPC_SET) status = TRY(task.read(at));
  if (command == IPC_INFO || command == MSG_INFO) {
    struct {
      int32_t pool, map, max, mnb, mni, ssz, tql;
      uint16_t seg, pad;
    } info{};
    int greatest = 0;
    {
      std::lock_guard guard(queues().lock);
      greatest = queues().greatest();
      info.pool = static_cast<int32_t>(queues().size());
    }
    info.max = static_cast<int32_t>(limits_for(task)[IpcLimit::MessageBytes]);
    info.mnb = static_cast<int32_t>(limits_for(task)[IpcLimit::QueueBytes]);
    info.mni = static_cast<int32_t>(limits_for(task)[IpcLimit::Queues]);
    TRY(task.write_bytes(at.address(), &info, sizeof info));
    return static_cast<long>(greatest);
  }
  QueueRef queue;
  {
    std::lock_guard guard(queues().lock);
    queue = queues().find(id);
    if (!queue) return Errno(EINVAL);
    if (command == IPC_STAT || command == MSG_STAT) {
      TRY(ipc_access(task, queue->permissions, 4));
      status.permissions = queue->permissions;
      status.sent_at = queue->sent_at;
      status.received_at = queue->received_at;
      status.changed_at = queue->changed_at;
      status.bytes = queue->bytes;
      status.count = queue->messages.size();
      status.room = queue->room;
      status.last_sender = queue->last_sender;
      status.last_receiver = queue->last_receiver;
    } else if (command == IPC_RMID) {
      TRY(ipc_owns(task, queue->permissions));
      queue->removed = true;
      queues().remove(id);
    } else if (command == IPC_SET) {
      TRY(ipc_owns(task, queue->permissions));
      if (status.room > limits_for(task)[IpcLimit::QueueBytes] && !task.creds->has(kCapSysResource)) return Errno(EPERM);
      queue->room = status.room;
      queue->permissions.uid = status.permissions.uid;
      queue->permissions.gid = status.permissions.gid;
      queue->permissions.mode = status.permissions.mode & 0777;
      queue->changed_at = realtime_now() / 1'000'000'000;
    } else {
      return Errno(EINVAL);
    }
  }
  queue->queue.wake(~0U);
  if (command == IPC_STAT || command == MSG_STAT) TRY(task.write(at, status));
  return command == MSG_STAT ? static_cast<long>(id) : 0L;
}

}  // namespace

Result<std::string> list_message_queues(Task& reader) {
  std::string text =
      "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n";
  std::lock_guard guard(queues().lock);
  queues().each([&](int id, const QueueRef& queue) {
    append_format(text, "%10d %10d  %4o  %10zu %10zu %5d %5d", queue->permissions.key, id, queue->permissions.mode, queue->bytes,
                  queue->messages.size(), queue->last_sender, queue->last_receiver);
    text += ipc_ids_text(reader, queue->permissions);
    append_format(text, " %10" PRId64 " %10" PRId64 " %10" PRId64 "\n", queue->sent_at, queue->received_at, queue->changed_at);
  });
  return text;
}

std::span<const SyscallRow> msg_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(msgget, 68, Full, ""),
      SYSCALL(msgsnd, 69, Full, ""),
      SYSCALL(msgrcv, 70, Partial, "no MSG_COPY"),
      SYSCALL(msgctl, 71, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
