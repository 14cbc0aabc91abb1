#include "kernel/fs/mqueue/mqueue.h"

#include <sys/stat.h>

#include "kernel/fs/common/node.h"
#include "kernel/ipc/message_queue.h"

namespace caisson::kernel {
namespace {

constexpr long kMagic = 0x19800202;
constexpr uint64_t kRoot = 1;

class MqueueFileSystem : public FileSystem, public std::enable_shared_from_this<MqueueFileSystem> {
 public:
  explicit MqueueFileSystem(std::shared_ptr<IpcNamespace> space)
      : space_(std::move(space)), root_(NodeStat::make(kRoot, S_IFDIR | 01777, 0, 0)) {
    root_.links = 2;
  }
  const char* name() const override { return "mqueue"; }
  Result<InodeRef> root() override;
  Result<struct statfs> stat_fs() override { return plain_statfs(kMagic); }
  MessageQueues& queues() const { return MessageQueues::of(*space_); }
  const NodeStat& root_node() const { return root_; }

 private:
  const std::shared_ptr<IpcNamespace> space_;
  NodeStat root_;
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

class MqueueFolderFile : public File {
 public:
  MqueueFolderFile(std::shared_ptr<MqueueFileSystem> fs, Path path, int flags) : File(std::move(path), flags), fs_(std::move(fs)) {}
  Result<size_t> read(Task&, IoBuffer&, off_t) override { return Errno(EISDIR); }
  bool seekable() const override { return true; }
  // A queue's position is its number: those that come and go meanwhile move no other.
  Result<void> read_dir(Task&, int64_t& position, const DirSink& sink) override {
    if (!emit_dots(*this, position, sink)) return {};
    std::map<uint64_t, std::string> names;
    {
      std::lock_guard guard(fs_->queues().lock);
      for (const auto& [name, queue] : fs_->queues().names) names[queue->inode] = name;
    }
    for (auto next = names.lower_bound(static_cast<uint64_t>(position)); next != names.end(); ++next) {
      const auto after = static_cast<int64_t>(next->first) + 1;
      if (!sink({next->second, next->first, entry_type(S_IFREG), after})) return {};
      position = after;
    }
    return {};
  }

 private:
  const std::shared_ptr<MqueueFileSystem> fs_;
};

class MqueueFolder : public Inode {
 public:
  using Inode::Inode;
  Result<struct statx> stat() override { return to_statx(*fs(), own().root_node()); }
  mode_t type() const override { return S_IFDIR; }
  std::pair<uint64_t, uint64_t> identity() const override { return {reinterpret_cast<uint64_t>(fs().get()), kRoot}; }
  Result<InodeRef> lookup(Task&, std::string_view name) override {
    std::lock_guard guard(own().queues().lock);
    const auto found = own().queues().names.find(std::string(name));
    if (found == own().queues().names.end()) return Errno(ENOENT);
    return InodeRef(std::make_shared<QueueInode>(fs(), found->second));
  }
  Result<InodeRef> make(Task& task, std::string_view name, mode_t mode_and_type, dev_t) override {
    if (!S_ISREG(mode_and_type)) return Errno(EPERM);
    auto queue = TRY(MessageQueue::make(task, own().queues(), mode_and_type & 07777, std::nullopt));
    TRY(own().queues().add(task, std::string(name), queue));
    return InodeRef(std::make_shared<QueueInode>(fs(), std::move(queue)));
  }
  Result<void> unlink(Task&, std::string_view name) override { return own().queues().remove(std::string(name)); }
  Result<FileRef> open(Task&, const Path& path, int flags) override {
    return FileRef(std::make_shared<MqueueFolderFile>(std::static_pointer_cast<MqueueFileSystem>(fs()), path, flags));
  }

 private:
  MqueueFileSystem& own() const { return static_cast<MqueueFileSystem&>(*fs()); }
};

Result<InodeRef> MqueueFileSystem::root() { return InodeRef(std::make_shared<MqueueFolder>(shared_from_this())); }

}  // namespace

std::shared_ptr<FileSystem> make_mqueue_file_system(std::shared_ptr<IpcNamespace> space) {
  return std::make_shared<MqueueFileSystem>(std::move(space));
}

}  // namespace caisson::kernel
