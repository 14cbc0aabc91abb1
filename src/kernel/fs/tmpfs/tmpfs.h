// Tmpfs: a file system in memory: names and attributes are the kernel's, contents are FileBytes. Device nodes, fifos and sockets are nodes
// that open_special() knows how to open.
//
// Locks: Tmpfs::lock guards the tree (names, attributes) of the whole file system; FileBytes has its own below it. Neither is held over
// guest memory.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "kernel/fs/common/node.h"
#include "kernel/fs/tmpfs/bytes.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

class TmpfsInode;
class TmpfsFolder;

class Tmpfs : public FileSystem, public std::enable_shared_from_this<Tmpfs> {
 public:
  struct Options {
    uint64_t bytes = 0;   // 0: half of the host's memory
    uint64_t inodes = 0;  // 0: 1,048,576
    mode_t mode = 01777;
    uid_t uid = 0;
    gid_t gid = 0;
  };
  // "size=64m,nr_inodes=1k,mode=755,uid=0,gid=5"; nr_blocks too; size may be a percentage of the host's memory. EINVAL for a word it does
  // not know.
  static Result<Options> parse(std::string_view text);
  // type_name: what /proc/mounts calls it ("tmpfs", "devtmpfs"); a literal.
  static std::shared_ptr<Tmpfs> create(const Options& options, const char* type_name = "tmpfs");
  ~Tmpfs() override;

  const char* name() const override { return type_name_; }
  Result<InodeRef> root() override;
  Result<struct statfs> stat_fs() override;
  // root() is to be called once more.
  void keep_root();
  // mount(MS_REMOUNT): new limits.
  Result<void> remount(const Options& options);

  // Makes nodes without a task (devices of a new container): at "pts/x" below the root; folders are made as needed, owned by root.
  Result<InodeRef> add(std::string_view path, mode_t mode_and_type, dev_t device = 0, std::string_view link_target = {});

  const std::shared_ptr<Budget>& budget() const { return budget_; }
  Result<uint64_t> take_inode();  // ENOSPC; ENOMEM: the container has no memory left
  void free_inode() { --inodes_; }

  mutable std::mutex lock;

 private:
  explicit Tmpfs(const char* type_name) : type_name_(type_name) {}
  const char* type_name_;
  // Until the first root() the file system owns its root, afterwards whoever uses it does: they refer to each other.
  std::shared_ptr<TmpfsFolder> unused_root_;
  std::weak_ptr<TmpfsFolder> root_;
  std::shared_ptr<Budget> budget_;
  std::atomic<uint64_t> inodes_{0}, most_inodes_{0}, next_{1};
};

class TmpfsInode : public Inode {
 public:
  static constexpr uint64_t kOwnMemory = 1024;  // bytes, with its name, about

  TmpfsInode(std::shared_ptr<Tmpfs> fs, NodeStat node) : Inode(fs), node(node), tmpfs(*fs), type_(node.mode & S_IFMT) {}
  ~TmpfsInode() override { tmpfs.free_inode(); }
  Result<struct statx> stat() override;
  mode_t type() const override { return type_; }
  bool names_are_stable() const override { return true; }
  Result<void> set_attributes(Task& task, const Attributes& attributes) override;
  Result<FileRef> open(Task& task, const Path& path, int flags) override;
  Result<std::string> get_xattr(Task& task, const char* name) override;
  Result<void> set_xattr(Task& task, const char* name, std::string_view value, int flags) override;
  Result<void> remove_xattr(Task& task, const char* name) override;
  Result<std::string> list_xattr(Task& task) override;

  // Who writes to a file, or gives it away, takes its capabilities from it (capabilities(7)). Under Tmpfs::lock.
  void drop_capabilities_locked();

  NodeStat node;  // under Tmpfs::lock
  Tmpfs& tmpfs;

 private:
  bool drop_attribute_locked(std::string_view name);
  size_t attribute_bytes_locked() const;

  const mode_t type_;
  HeldBytes held_ = HeldBytes::take_anyway(kOwnMemory);     // with the attributes; under Tmpfs::lock
  std::map<std::string, std::string, std::less<>> xattrs_;  // under Tmpfs::lock
};

class TmpfsLink : public TmpfsInode {
 public:
  TmpfsLink(std::shared_ptr<Tmpfs> fs, NodeStat node, std::string target) : TmpfsInode(std::move(fs), node), target_(std::move(target)) {}
  Result<std::string> read_link(Task&) override { return target_; }

 private:
  const std::string target_;
};

class TmpfsRegular : public TmpfsInode {
 public:
  TmpfsRegular(std::shared_ptr<Tmpfs> fs, NodeStat node) : TmpfsInode(fs, node), bytes(fs->budget()) {}
  Result<struct statx> stat() override;
  Result<void> set_attributes(Task& task, const Attributes& attributes) override;
  Result<FileRef> open(Task& task, const Path& path, int flags) override;
  // Contents have changed: times, and the set-id bits, which only CAP_FSETID keeps.
  void written(Task* task);
  void accessed();
  FileBytes bytes;
};

class TmpfsFolder : public TmpfsInode {
 public:
  using TmpfsInode::TmpfsInode;
  ~TmpfsFolder() override;
  Result<InodeRef> lookup(Task& task, std::string_view name) override;
  Result<InodeRef> make(Task& task, std::string_view name, mode_t mode_and_type, dev_t device) override;
  Result<InodeRef> make_link(Task& task, std::string_view name, std::string_view target) override;
  Result<void> link(Task& task, std::string_view name, const InodeRef& existing) override;
  Result<void> unlink(Task& task, std::string_view name) override;
  Result<void> remove_folder(Task& task, std::string_view name) override;
  Result<void> rename(Task& task, std::string_view name, Inode& to, std::string_view new_name, unsigned flags) override;
  Result<FileRef> make_unnamed(Task& task, const Path& path, int flags, mode_t mode) override;
  Result<FileRef> open(Task& task, const Path& path, int flags) override;

  // What a folder lists from `position` on, at most `most` entries.
  struct Listed {
    std::string name;
    uint64_t inode;
    unsigned char type;
    int64_t next;
  };
  std::vector<Listed> list(int64_t position, size_t most) const;
  std::shared_ptr<TmpfsInode> find(std::string_view name) const;
  // Adds a name; EEXIST.
  Result<void> insert(std::string_view name, std::shared_ptr<TmpfsInode> inode);

 private:
  struct Child {
    std::shared_ptr<TmpfsInode> inode;
    int64_t place;
  };
  using Children = std::map<std::string, Child, std::less<>>;
  Result<void> insert_locked(std::string_view name, std::shared_ptr<TmpfsInode> inode);
  void erase_locked(Children::iterator child);
  void touch_locked();
  Result<void> exchange_locked(Children::iterator from, TmpfsFolder& to, std::string_view new_name);
  Result<void> replace_locked(Children::iterator target, const TmpfsInode& by);
  Result<NodeStat> new_node(Task& task, mode_t mode_and_type);

  // Under Tmpfs::lock. Places only grow, so that a listing goes on where it was whatever is made or removed meanwhile.
  Children children_;
  std::map<int64_t, Children::iterator> order_;
  int64_t next_place_ = 2;
  bool removed_ = false;
};

}  // namespace caisson::kernel
