// CgroupNodes: what the files of one control group are to the file system: whose they are, and who waits for their changes.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>

#include "kernel/fs/common/node.h"
#include "kernel/task/wait.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

class Cgroup;
class CgroupFileSystem;
struct Credentials;

// Locks: its own, a leaf; tell() may be called with Kernel::tasks held.
class CgroupNodes {
 public:
  CgroupNodes(uid_t uid, gid_t gid, mode_t folder_mode);
  const uint64_t number;  // never given twice

  // What happens by itself, and is told (poll(2), inotify(7)): each has a file, "cgroup.events" and "pids.events".
  enum Change { Events, PidsEvents, kChanges };
  void tell(Change change);
  uint32_t version(Change change) const { return versions_[change].load(); }
  WaitQueue changes;

  // The group has been removed: watches of its files end.
  void end_watches();
  // Groups below, for its folder's number of links.
  std::atomic<uint32_t> folders{0};

  bool may_write_procs(const Credentials& creds) const;

  // The inodes in use: the same for everybody, so that whoever watches one hears of it.
  InodeRef folder(const std::shared_ptr<CgroupFileSystem>& fs, const std::shared_ptr<Cgroup>& group);
  InodeRef file(const std::shared_ptr<CgroupFileSystem>& fs, const std::shared_ptr<Cgroup>& group, size_t row);
  // Of the folder, and of the file of a row of kCgroupFiles.
  static constexpr size_t kFolder = ~size_t{0};
  NodeStat attributes(size_t which) const;
  Result<void> set_attributes(Task& task, size_t which, const Attributes& attributes);

 private:
  NodeStat attributes_locked(size_t which) const;
  mutable std::mutex lock_;
  const NodeStat made_;                 // as it was made
  std::map<size_t, NodeStat> changed_;  // of those that have been changed since
  std::map<size_t, std::weak_ptr<Inode>> inodes_;
  std::atomic<uint32_t> versions_[kChanges]{};
};

}  // namespace caisson::kernel
