// Files whose content the kernel makes up when they are read, and folders of them: what proc, sysfs and the cgroup view are made of.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernel/fs/common/node.h"
#include "kernel/vfs/file.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

class Task;

// What nodes of made-up file systems share: attributes that do not change, and an identity by number.
class MadeUpInode : public Inode {
 public:
  MadeUpInode(std::shared_ptr<FileSystem> fs, uint64_t number, mode_t mode, uid_t uid = 0, gid_t gid = 0);
  Result<struct statx> stat() override { return to_statx(*fs(), node_); }
  mode_t type() const override { return node_.mode & S_IFMT; }
  std::pair<uint64_t, uint64_t> identity() const override { return {reinterpret_cast<uint64_t>(fs().get()), node_.inode}; }
  Result<FileRef> open(Task& task, const Path& path, int flags) override;

 protected:
  NodeStat node_;
};

class TextInode : public MadeUpInode {
 public:
  using Read = std::function<Result<std::string>(Task&)>;
  // One write(2): the whole text. EINVAL and so on.
  using Write = std::function<Result<void>(Task&, std::string_view)>;
  TextInode(std::shared_ptr<FileSystem> fs, uint64_t number, mode_t permissions, Read read, Write write = nullptr, uid_t uid = 0,
            gid_t gid = 0)
      : MadeUpInode(std::move(fs), number, S_IFREG | permissions, uid, gid), read_(std::move(read)), write_(std::move(write)) {}
  Result<FileRef> open(Task& task, const Path& path, int flags) override;
  Result<void> set_attributes(Task& task, const Attributes& attributes) override;  // O_TRUNC is taken and does nothing

 private:
  Read read_;
  Write write_;
};

class LinkInode : public MadeUpInode {
 public:
  LinkInode(std::shared_ptr<FileSystem> fs, uint64_t number, std::function<Result<std::string>(Task&)> target)
      : MadeUpInode(std::move(fs), number, S_IFLNK | 0777), target_(std::move(target)) {}
  Result<std::string> read_link(Task& task) override { return target_(task); }

 private:
  std::function<Result<std::string>(Task&)> target_;
};

// The text is made anew by each read from the start, as Linux's seq_file does it, so that a program may keep the file open and rewind.
class TextFile : public File {
 public:
  TextFile(Path path, int flags, TextInode::Read read, TextInode::Write write)
      : File(std::move(path), flags), read_(std::move(read)), write_(std::move(write)) {}
  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override;
  Result<size_t> write(Task& task, IoBuffer& buffer, off_t offset) override;
  bool seekable() const override { return true; }
  Result<off_t> size() override { return off_t{0}; }
  Result<void> truncate(Task&, off_t) override { return {}; }

 private:
  TextInode::Read read_;
  TextInode::Write write_;
  std::mutex lock_;
  std::shared_ptr<const std::string> text_;
};

struct ListedEntry {
  std::string name;
  uint64_t inode = 0;
  unsigned char type = 0;
  int64_t next = 0;  // position behind it
};

class MadeUpFolder : public MadeUpInode {
 public:
  MadeUpFolder(std::shared_ptr<FileSystem> fs, uint64_t number, mode_t permissions = 0555, uid_t uid = 0, gid_t gid = 0)
      : MadeUpInode(std::move(fs), number, S_IFDIR | permissions, uid, gid) {
    node_.links = 2;
  }
  // Entries from `position` (2: the first) on; all of them or the first few: called again behind the last.
  virtual Result<std::vector<ListedEntry>> list(Task& task, int64_t position) = 0;
  Result<InodeRef> lookup(Task& task, std::string_view name) override = 0;
  Result<FileRef> open(Task& task, const Path& path, int flags) override;
};

// A folder whose entries are known when it is made.
class FixedFolder : public MadeUpFolder {
 public:
  using MadeUpFolder::MadeUpFolder;
  void add(std::string name, InodeRef inode) { entries_.emplace_back(std::move(name), std::move(inode)); }
  Result<std::vector<ListedEntry>> list(Task& task, int64_t position) override;
  Result<InodeRef> lookup(Task& task, std::string_view name) override;

 private:
  std::vector<std::pair<std::string, InodeRef>> entries_;
};

// Builds a tree of FixedFolders: names with slashes make folders.
class TreeBuilder {
 public:
  TreeBuilder(std::shared_ptr<FileSystem> fs, uint64_t first_number) : fs_(std::move(fs)), next_(first_number) {
    root_ = std::make_shared<FixedFolder>(fs_, next_++);
    folders_.emplace_back("", root_);
  }
  const std::shared_ptr<FixedFolder>& root() const { return root_; }
  void text(const std::string& path, std::string content);
  void file(const std::string& path, TextInode::Read read, mode_t permissions = 0444, TextInode::Write write = nullptr);
  void link(const std::string& path, std::string target);
  void add(const std::string& path, InodeRef inode);
  std::shared_ptr<FixedFolder> folder(const std::string& path);
  uint64_t number() { return next_++; }
  const std::shared_ptr<FileSystem>& fs() const { return fs_; }

 private:
  std::shared_ptr<FileSystem> fs_;
  uint64_t next_;
  std::shared_ptr<FixedFolder> root_;
  std::vector<std::pair<std::string, std::shared_ptr<FixedFolder>>> folders_;
};

// printf into a string.
[[gnu::format(printf, 2, 3)]] void append_format(std::string& text, const char* format, ...);

}  // namespace caisson::kernel
