// Inode, Dentry, Mount, Path: names and what they stand for.
//
// Locks, in this order: the one of all mount tables, Dentry::lock (parent before child), an inode's own. Dentry::lock guards children only,
// and is never held over a host call.
#pragma once

#include <sys/stat.h>
#include <sys/statfs.h>

#include <atomic>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "kernel/errno.h"
#include "kernel/task/namespaces.h"

namespace caisson::kernel {

class Task;
class File;
class Inode;
class Dentry;
class Mount;
class FileSystem;
using InodeRef = std::shared_ptr<Inode>;
using DentryRef = std::shared_ptr<Dentry>;
using MountRef = std::shared_ptr<Mount>;
using FileRef = std::shared_ptr<File>;

// A place: a name in a mount.
class Path {
 public:
  MountRef mount;
  DentryRef dentry;
  explicit operator bool() const { return dentry != nullptr; }
  bool operator==(const Path&) const = default;
  InodeRef inode() const;
};

// What setattr changes: statx's STATX_* bits say which members count.
struct Attributes {
  uint32_t mask = 0;  // STATX_MODE, STATX_UID, STATX_GID, STATX_SIZE, STATX_ATIME, STATX_MTIME
  mode_t mode = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  off_t size = 0;
  timespec atime{}, mtime{};  // tv_nsec may be UTIME_NOW
};

// A file, folder, link... in a file system. Defaults: ENOTDIR, EPERM and so on, as for a plain file of a read-only file system.
// Permission: kernel file systems leave it to vfs (permission() below, by stat()); host folders leave it to the host, as the task's
// identity.
class Inode {
 public:
  explicit Inode(std::shared_ptr<FileSystem> fs) : fs_(std::move(fs)) {}
  virtual ~Inode() = default;
  virtual Result<struct statx> stat() = 0;
  // S_IFMT part of the mode; cannot change.
  virtual mode_t type() const = 0;

  // Folders. Names are single components, never ".", ".." or "".
  virtual Result<InodeRef> lookup(Task& task, std::string_view name);
  // Makes and opens (O_CREAT: O_EXCL was or was not given in flags); where not overridden: mknod, then open.
  virtual Result<InodeRef> make(Task& task, std::string_view name, mode_t mode_and_type, dev_t device);
  virtual Result<InodeRef> make_link(Task& task, std::string_view name, std::string_view target);
  virtual Result<void> link(Task& task, std::string_view name, const InodeRef& existing);
  virtual Result<void> unlink(Task& task, std::string_view name);
  virtual Result<void> remove_folder(Task& task, std::string_view name);
  // flags are renameat2(2)'s. `to` is of the same file system.
  virtual Result<void> rename(Task& task, std::string_view name, Inode& to, std::string_view new_name, unsigned flags);
  // O_TMPFILE.
  virtual Result<FileRef> make_unnamed(Task& task, const Path& path, int flags, mode_t mode);

  virtual Result<std::string> read_link(Task& task);
  // A magic link (/proc/PID/fd/N, exe, cwd): where it leads, without a text. Empty: an ordinary link.
  virtual Result<Path> follow(Task& task);
  virtual Result<FileRef> open(Task& task, const Path& path, int flags) = 0;
  virtual Result<void> set_attributes(Task& task, const Attributes& attributes);
  virtual Result<void> access(Task& task, int mode, bool effective);  // mode: R_OK | W_OK | X_OK

  virtual Result<std::string> get_xattr(Task& task, const char* name);
  virtual Result<void> set_xattr(Task& task, const char* name, std::string_view value, int flags);
  virtual Result<void> remove_xattr(Task& task, const char* name);
  virtual Result<std::string> list_xattr(Task& task);  // names with their NULs

  // Two inode objects with the same identity stand for the same file.
  virtual std::pair<uint64_t, uint64_t> identity() const { return {0, reinterpret_cast<uint64_t>(this)}; }
  // False: what a name stands for can change behind our back (host folders, /proc): every walk looks it up again.
  virtual bool names_are_stable() const { return false; }
  // An open O_PATH host descriptor, or -1.
  virtual int host_fd() const { return -1; }
  const std::shared_ptr<FileSystem>& fs() const { return fs_; }

  // Events that somebody wants to be told of (vfs/notify.h); written by event/watches.cc only.
  std::atomic<uint32_t> watched{0};

 private:
  std::shared_ptr<FileSystem> fs_;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual const char* name() const = 0;  // third column of /proc/mounts
  virtual Result<InodeRef> root() = 0;
  virtual Result<struct statfs> stat_fs() = 0;
  std::atomic<int> mounts{0};  // how many mounts show it or a part of it
  uint32_t device = 0;         // st_dev minor (major 0) of kernel file systems; given by the mount table
  // What it has are things without a place, whose names say it all: "uts:[4026531838]".
  virtual bool names_say_all() const { return false; }
  // Its folders may be held beyond their use (RecentFolders). Else what the node has mounted below one would be in use, and could not be
  // unmounted.
  virtual bool may_keep_folders() const { return true; }
};

// A name in a folder, with what it stands for. Kept alive by who uses it, and by its children.
class Dentry : public std::enable_shared_from_this<Dentry> {
 public:
  Dentry(std::string name, DentryRef parent, InodeRef inode)
      : name_(std::move(name)), parent_(std::move(parent)), inode_(std::move(inode)) {}
  ~Dentry();
  std::string name() const;
  DentryRef parent() const;
  InodeRef inode() const;
  // The child that is in use under this name, or none.
  DentryRef cached(std::string_view name);
  // The child for this name and inode: the one in use if it stands for the same file, else a new one (the old is deleted, then).
  DentryRef child(std::string_view name, InodeRef inode);
  // The name has gone (unlink): /proc says "(deleted)".
  void forget(std::string_view name);
  void moved(std::string_view name, const DentryRef& to, std::string_view new_name);
  bool deleted() const { return deleted_.load(std::memory_order_relaxed); }
  void mark_deleted() { deleted_ = true; }
  std::atomic<int> mounted{0};  // how many mounts sit on this dentry

 private:
  mutable std::mutex lock_;
  std::string name_;
  DentryRef parent_;
  InodeRef inode_;
  std::atomic<bool> deleted_{false};
  std::map<std::string, std::weak_ptr<Dentry>, std::less<>> children_;
  size_t sweep_at_ = 64;
};

class MountTable;
class PeerGroup;

// A file system, or a part of one, at a place. Where it is, and how it spreads, is the mount tables' business: under their lock.
class Mount : public std::enable_shared_from_this<Mount> {
 public:
  Mount() = default;
  ~Mount();
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  uint64_t id = 0;
  std::shared_ptr<FileSystem> fs;
  DentryRef root;                        // what is seen at the mount point
  std::atomic<unsigned long> flags = 0;  // MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME...
  unsigned long locked_flags = 0;        // of these, what who has it may not take away (it came from a more privileged namespace)
  std::string source, options;
  bool read_only() const { return flags & 1; }
  // Counted among the mounts of its file system: after the last of them has gone, watches end (IN_UNMOUNT).
  void count();
  // Where it is; empty for the root, and after it has been unmounted.
  Path point() const;
  // Whose it is; null: nobody's (unmounted, or never mounted). To be compared only.
  const MountTable* table() const;

 private:
  friend class MountTable;
  friend class PeerGroup;
  friend struct MountTree;
  Path point_;
  bool counted_ = false;
  MountTable* table_ = nullptr;
  std::vector<Mount*> children_;  // what is mounted on it, the later ones on top; all are in a table
  std::shared_ptr<PeerGroup> peers_, master_;
  bool unbindable_ = false;
  bool locked_ = false;  // may not be taken away alone: it hides something from a less privileged namespace
};

// Mounts that hear of each other's changes (mount_namespaces(7), "Shared subtrees"). Under the mount tables' lock.
class PeerGroup {
 public:
  PeerGroup();
  const uint64_t id;
  std::vector<Mount*> members, slaves;
  static void join(Mount& mount, std::shared_ptr<PeerGroup> group);
  static void follow(Mount& mount, std::shared_ptr<PeerGroup> master);
  // Its own changes, or its master's, are none of its business any more.
  static void leave(Mount& mount);
  static void unfollow(Mount& mount);
};

// What a mount has to say in mountinfo's optional fields; 0: nothing.
struct PropagationFacts {
  uint64_t shared = 0, master = 0;
  bool unbindable = false;
};

// A folder's dentry, or one below it?
bool is_below(DentryRef dentry, const DentryRef& folder);

// The mounts that a process sees: a mount namespace; also a tree that is not attached anywhere (open_tree). One lock for all tables, since
// a change of one can spread to others: MountTable::lock(); after it Dentry::lock only. Freed objects are dropped outside of it.
class MountTable : public Namespace {
 public:
  explicit MountTable(std::shared_ptr<UserNamespace> owner = UserNamespace::initial());
  ~MountTable() override;
  static constexpr size_t kMostMounts = 10000;      // of one table
  static constexpr size_t kMostOfAll = 10 * 10000;  // of the whole kernel

  // The topmost mount at a place, or none; of whatever table.
  static MountRef at(const Path& point);
  // A new mount. ENOSPC: too many; EINVAL: `point` is in none of this table's mounts.
  Result<MountRef> add(std::shared_ptr<FileSystem> fs, DentryRef root, const Path& point, unsigned long flags, std::string source,
                       std::string options);
  // A copy of what is seen at `source`, at `target`; recursively with what is mounted below it. EINVAL: not bindable.
  Result<void> bind(const Path& source, const Path& target, bool recursive);
  // EBUSY: something is mounted on it, or in use in it; lazily: it goes with all that is mounted on it, and lives on for those who use it.
  // The caller has one reference to it. EINVAL: not here, or locked.
  Result<void> remove(const MountRef& mount, bool lazily = false);
  // EPERM: it takes away what is locked.
  Result<void> set_flags(const MountRef& mount, unsigned long flags);
  // MS_SHARED, MS_PRIVATE, MS_SLAVE or MS_UNBINDABLE.
  Result<void> set_propagation(const MountRef& mount, unsigned long type, bool recursive);
  // ELOOP: the target lies in what is moved. EINVAL.
  Result<void> move(const MountRef& mount, const Path& target);
  // pivot_root(2): new_root becomes a root, and the old one is mounted at put_old. EINVAL, EBUSY.
  Result<void> pivot(const Path& new_root, const Path& put_old, const MountRef& old_root);
  // A new namespace with copies of all; `places` are moved into it. Mounts that a less privileged owner gets are locked.
  Result<std::shared_ptr<MountTable>> copy(std::shared_ptr<UserNamespace> owner, std::initializer_list<Path*> places);
  std::vector<MountRef> all() const;  // oldest first
  static PropagationFacts propagation(const MountRef& mount);
  // Mounts of this table below `top`, itself first.
  std::vector<MountRef> below(const MountRef& top) const;

 private:
  friend struct MountTree;
  Result<void> may_be_bound_locked(const Path& source, bool recursive) const;
  Result<void> check_target_locked(const Path& target) const;
  std::vector<MountRef> mounts_;
};

}  // namespace caisson::kernel
