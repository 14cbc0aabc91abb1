#include "kernel/fs/mqueue/mqueue.h"

#include <sys/stat.h>

#include <algorithm>

#include "kernel/fs/common/text.h"
#include "kernel/ipc/message_queue.h"

namespace caisson::kernel {
namespace {

constexpr long kMagic = 0x19800202;
constexpr uint64_t kRoot = 1;

class MqueueFileSystem : public FileSystem, public std::enable_shared_from_this<MqueueFileSystem> {
 public:
  explicit MqueueFileSystem(std::shared_ptr<IpcNamespace> space) : space_(std::move(space)) {}
  const char* name() const override { return "mqueue"; }
  Result<InodeRef> root() override;
  Result<struct statfs> stat_fs() override { return plain_statfs(kMagic); }
  MessageQueues& queues() const { return MessageQueues::of(*space_); }

 private:
  const std::shared_ptr<IpcNamespace> space_;
};

class QueueInode : public Inode {
 public:
  QueueInode(std::shared_ptr<FileSystem> fs, std::shared_ptr<MessageQueue> queue) : Inode(std::move(fs)), queue_(std::move(queue)) {}
  Result<struct statx> stat() override {
    std::lock_guard guard(queue_->lock);
    return to_statx(*fs(), node_locked());
  }
  mode_t type() const override { return S_IFREG; }
  std::pair<uint64_t, uint64_t> identity() const override { return {reinterpret_cast<uint64_t>(fs().get()), queue_->inode}; }
  Result<FileRef> open(Task&, const Path& path, int flags) override {
    if ((flags & O_PATH) != 0) return FileRef(std::make_shared<File>(path, flags));
    return FileRef(std::make_shared<MessageQueueFile>(queue_, flags & (O_ACCMODE | O_NONBLOCK)));
  }
  Result<void> set_attributes(Task& task, const Attributes& attributes) override {
    Attributes allowed = attributes;
    allowed.mask &= ~static_cast<uint32_t>(STATX_SIZE);  // O_TRUNC is taken and does nothing
    std::lock_guard guard(queue_->lock);
    NodeStat node = node_locked();
    TRY(may_change(task, node, allowed));
    change(node, allowed);
    queue_->mode = node.mode & 07777;
    queue_->uid = node.uid;
    queue_->gid = node.gid;
    queue_->accessed = node.atime;
    queue_->changed = node.mtime;
    return {};
  }

 private:
  NodeStat node_locked() const {
    NodeStat node;
    node.inode = queue_->inode;
    node.mode = S_IFREG | queue_->mode;
    node.uid = queue_->uid;
    node.gid = queue_->gid;
    node.size = MessageQueue::kFileSize;
    node.atime = queue_->accessed;
    node.mtime = node.ctime = node.btime = queue_->changed;
    return node;
  }
  const std::shared_ptr<MessageQueue> queue_;
};

class MqueueFolder : public MadeUpFolder {
 public:
  explicit MqueueFolder(std::shared_ptr<MqueueFileSystem> fs) : MadeUpFolder(fs, kRoot, 01777), queues_(fs->queues()) {}
  Result<InodeRef> lookup(Task&, std::string_view name) override {
    auto queue = queues_.find(std::string(name));
    if (!queue) return Errno(ENOENT);
    return InodeRef(std::make_shared<QueueInode>(fs(), std::move(queue)));
  }
  // A queue's position is its number: those that come and go meanwhile move no other.
  Result<std::vector<ListedEntry>> list(Task&, int64_t position) override {
    std::vector<ListedEntry> entries;
    {
      std::lock_guard guard(queues_.lock);
      for (const auto& [name, queue] : queues_.names)
        if (static_cast<int64_t>(queue->inode) >= position)
          entries.push_back({name, queue->inode, entry_type(S_IFREG), static_cast<int64_t>(queue->inode) + 1});
    }
    std::ranges::sort(entries, {}, &ListedEntry::inode);
    return entries;
  }
  Result<InodeRef> make(Task& task, std::string_view name, mode_t mode_and_type, dev_t) override {
    if (!S_ISREG(mode_and_type)) return Errno(EPERM);
    auto queue = TRY(MessageQueue::make(task, queues_, mode_and_type & 07777, std::nullopt));
    TRY(queues_.add(task, std::string(name), queue));
    return InodeRef(std::make_shared<QueueInode>(fs(), std::move(queue)));
  }
  Result<void> unlink(Task&, std::string_view name) override { return queues_.remove(std::string(name)); }

 private:
  MessageQueues& queues_;  // the file system's, which this one keeps
};

Result<InodeRef> MqueueFileSystem::root() { return InodeRef(std::make_shared<MqueueFolder>(shared_from_this())); }

}  // namespace

std::shared_ptr<FileSystem> make_mqueue_file_system(std::shared_ptr<IpcNamespace> space) {
  return std::make_shared<MqueueFileSystem>(std::move(space));
}

}  // namespace caisson::kernel
