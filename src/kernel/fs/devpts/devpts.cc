#include "kernel/fs/devpts/devpts.h"

#include <sys/sysmacros.h>

#include <charconv>

#include "base/text.h"
#include "kernel/fs/common/node.h"
#include "kernel/task/task.h"
#include "kernel/tty/pty.h"

namespace caisson::kernel {
namespace {

constexpr unsigned kSlaveMajor = 136;
constexpr long kDevptsMagic = 0x1cd1;

class DevptsNode : public Inode {
 public:
  DevptsNode(std::shared_ptr<Devpts> fs, NodeStat node) : Inode(std::move(fs)), node_(node) {}
  Result<struct statx> stat() override {
    std::lock_guard guard(lock_);
    return to_statx(*fs(), node_);
  }
  mode_t type() const override { return S_IFCHR; }
  std::pair<uint64_t, uint64_t> identity() const override { return {reinterpret_cast<uint64_t>(fs().get()), node_.inode}; }
  Result<void> set_attributes(Task& task, const Attributes& attributes) override {
    Attributes allowed = attributes;
    std::lock_guard guard(lock_);
    TRY(may_change(task, node_, allowed));
    change(node_, allowed);
    return {};
  }

 protected:
  mutable std::mutex lock_;
  NodeStat node_;
};

class SlaveNode : public DevptsNode {
 public:
  // Weak, because the terminal's files have the node as their place.
  SlaveNode(std::shared_ptr<Devpts> fs, NodeStat node, const std::shared_ptr<Terminal>& terminal)
      : DevptsNode(std::move(fs), node), terminal_(terminal) {}
  Result<FileRef> open(Task& task, const Path& path, int flags) override {
    if ((flags & O_PATH) != 0) return FileRef(std::make_shared<File>(path, flags));
    std::shared_ptr<Terminal> terminal = terminal_.lock();
    if (!terminal) return Errno(EIO);
    return TerminalFile::open(task, std::move(terminal), path, flags);
  }

 private:
  std::weak_ptr<Terminal> terminal_;
};

class PtmxNode : public DevptsNode {
 public:
  using DevptsNode::DevptsNode;
  Result<FileRef> open(Task& task, const Path& path, int flags) override {
    if ((flags & O_PATH) != 0) return FileRef(std::make_shared<File>(path, flags));
    return PtyMasterFile::open(task, std::static_pointer_cast<Devpts>(fs()), path, flags);
  }
};

class DevptsFolderFile : public File {
 public:
  DevptsFolderFile(std::shared_ptr<Devpts> devpts, Path path, int flags) : File(std::move(path), flags), devpts_(std::move(devpts)) {}
  Result<size_t> read(Task&, IoBuffer&, off_t) override { return Errno(EISDIR); }
  bool seekable() const override { return true; }
  Result<void> read_dir(Task&, int64_t& position, const DirSink& sink) override {
    if (!emit_dots(*this, position, sink)) return {};
    if (position == 2) {
      if (!sink({"ptmx", 2, entry_type(S_IFCHR), 3})) return {};
      position = 3;
    }
    for (const int index : devpts_->list()) {
      if (index + 3 < position) continue;
      const std::string name = std::to_string(index);
      if (!sink({name, static_cast<uint64_t>(index) + 3, entry_type(S_IFCHR), index + 4})) return {};
      position = index + 4;
    }
    return {};
  }

 private:
  std::shared_ptr<Devpts> devpts_;
};

template <typename Number>
Result<Number> parse_number(std::string_view text, int base = 10) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return Errno(EINVAL);
  return value;
}

Result<void> parse_word(std::string_view word, Devpts::Options& options) {
  const size_t equals = word.find('=');
  const std::string_view key = word.substr(0, equals);
  const std::string_view value = equals == word.npos ? std::string_view() : word.substr(equals + 1);
  if (key == "mode") {
    options.mode = TRY(parse_number<mode_t>(value, 8)) & 0777;
  } else if (key == "ptmxmode") {
    options.ptmx_mode = TRY(parse_number<mode_t>(value, 8)) & 0777;
  } else if (key == "uid") {
    options.uid = TRY(parse_number<uid_t>(value));
    options.has_uid = true;
  } else if (key == "gid") {
    options.gid = TRY(parse_number<gid_t>(value));
    options.has_gid = true;
  } else if (key == "max") {
    options.most = std::min(options.most, TRY(parse_number<int>(value)));
  } else if (key != "newinstance" && key != "rw" && key != "ro") {
    return Errno(EINVAL);
  }
  return {};
}

}  // namespace

class DevptsRoot : public Inode {
 public:
  explicit DevptsRoot(std::shared_ptr<Devpts> fs) : Inode(fs), devpts_(*fs) {}
  Result<struct statx> stat() override {
    std::lock_guard guard(devpts_.lock_);
    return to_statx(*fs(), devpts_.root_node_);
  }
  mode_t type() const override { return S_IFDIR; }
  std::pair<uint64_t, uint64_t> identity() const override { return {reinterpret_cast<uint64_t>(fs().get()), 1}; }
  Result<InodeRef> lookup(Task&, std::string_view name) override {
    if (name == "ptmx") return InodeRef(std::make_shared<PtmxNode>(std::static_pointer_cast<Devpts>(fs()), devpts_.ptmx_node_));
    const Result<int> index = parse_number<int>(name);
    if (!index || std::to_string(*index) != name) return Errno(ENOENT);
    return devpts_.node(*index);
  }
  Result<FileRef> open(Task&, const Path& path, int flags) override {
    return FileRef(std::make_shared<DevptsFolderFile>(std::static_pointer_cast<Devpts>(fs()), path, flags));
  }

 private:
  Devpts& devpts_;
};

Result<Devpts::Options> Devpts::parse(std::string_view text) {
  Options options;
  for (const std::string_view word : split_fields(text, ',')) TRY(parse_word(word, options));
  return options;
}

std::shared_ptr<Devpts> Devpts::create(const Options& options) {
  std::shared_ptr<Devpts> fs(new Devpts(options));
  fs->root_node_ = NodeStat::make(1, S_IFDIR | 0755, 0, 0);
  fs->root_node_.links = 2;
  fs->ptmx_node_ = NodeStat::make(2, S_IFCHR | options.ptmx_mode, 0, 0);
  fs->ptmx_node_.device = makedev(5, 2);
  return fs;
}

Result<InodeRef> Devpts::root() { return InodeRef(std::make_shared<DevptsRoot>(shared_from_this())); }

Result<struct statfs> Devpts::stat_fs() { return plain_statfs(kDevptsMagic); }

Result<std::shared_ptr<Terminal>> Devpts::make_terminal(Kernel& kernel, uid_t uid, gid_t gid) {
  std::lock_guard guard(lock_);
  int index = 0;
  for (const auto& [used, node] : nodes_) {
    if (used != index) break;
    ++index;
  }
  if (index >= options_.most) return Errno(ENOSPC);
  auto terminal = std::make_shared<Terminal>(kernel, index);
  NodeStat node = NodeStat::make(static_cast<uint64_t>(index) + 3, S_IFCHR | options_.mode, options_.has_uid ? options_.uid : uid,
                                 options_.has_gid ? options_.gid : gid);
  node.device = makedev(kSlaveMajor, static_cast<unsigned>(index));
  nodes_[index] = std::make_shared<SlaveNode>(shared_from_this(), node, terminal);
  return terminal;
}

void Devpts::remove(int index) {
  InodeRef node;  // freed outside the lock
  std::lock_guard guard(lock_);
  const auto found = nodes_.find(index);
  if (found == nodes_.end()) return;
  node = std::move(found->second);
  nodes_.erase(found);
}

Result<InodeRef> Devpts::node(int index) {
  std::lock_guard guard(lock_);
  const auto found = nodes_.find(index);
  if (found == nodes_.end()) return Errno(ENOENT);
  return found->second;
}

std::vector<int> Devpts::list() const {
  std::vector<int> result;
  std::lock_guard guard(lock_);
  for (const auto& [index, node] : nodes_) result.push_back(index);
  return result;
}

Result<std::shared_ptr<Devpts>> devpts_of(Task& task) {
  const std::vector<MountRef> mounts = task.spaces->mounts->all();
  for (auto mount = mounts.rbegin(); mount != mounts.rend(); ++mount)
    if (auto devpts = std::dynamic_pointer_cast<Devpts>((*mount)->fs)) return devpts;
  return Errno(ENODEV);
}

}  // namespace caisson::kernel
