// MountTree: mounts that are made or moved as one, and where they spread to. For MountTable's methods only; its lock is held.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "kernel/task/wait.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

uint64_t next_mount_id();
// Guards where mounts are, which table they belong to, and how they spread.
std::mutex& mount_lock();
extern size_t g_mount_count;  // of all tables; under mount_lock()

// How often mounts of a table have come, gone or changed, for who waits for that (poll(2) of /proc/PID/mountinfo).
struct MountChanges {
  std::atomic<uint32_t> count{0};
  WaitQueue queue;
};
// Of this table, for as long as somebody holds it.
std::shared_ptr<MountChanges> mount_changes_of(const MountTable& table);

struct MountTree {
  std::vector<MountRef> mounts;  // parents before children; the first is the top

  // What a copy is to what it is copied from.
  enum class As { Copy, Slave, SharedSlave };
  struct Options {
    As as = As::Copy;  // Copy: a peer of what is shared, a slave of the same master
    bool locked = false;
    bool skip_unbindable = true;
    bool skip_mount_namespaces = true;
  };
  // Mounts at and below `top`, in their table, seen from `root` on. recursive: with what is mounted below.
  // twins: gets the copy of each.
  using Twins = std::map<const Mount*, MountRef>;
  static MountTree copy(Mount& top, const DentryRef& root, bool recursive, const Options& options, Twins* twins = nullptr);
  MountTree copy(const Options& options, Twins* twins = nullptr) const;
  static MountTree of(Mount& top);  // itself and all below it

  // Hangs the tree up at a place of that table, spreads copies, and takes care that nothing is left undone where it fails. ENOSPC.
  Result<void> attach(MountTable& table, const Path& target);
  // The same for mounts that are in a table already (they are moved).
  Result<void> move(MountTable& table, const Path& target);

  // A tree that is in no namespace (open_tree(2)): a table of its own with a copy of what is seen at `source`. ENOSPC; EINVAL: not
  // bindable.
  static Result<std::shared_ptr<MountTable>> clone_detached(const MountTable& from, const Path& source, bool recursive,
                                                            std::shared_ptr<UserNamespace> owner);
  // All mounts of such a table to a place of another; on failure they stay. EINVAL: it is empty; ENOSPC.
  static Result<void> attach_detached(MountTable& detached, MountTable& to, const Path& target);

  // ---- Parts
  static void link(Mount& mount, MountTable& table, Path point);
  // Takes it out of its place, its table and its groups. What it held is put into `gone`, for the caller to drop without the lock.
  static void unlink(Mount& mount, std::vector<Path>& gone);
  // Takes it from its place only.
  static void take_off(Mount& mount, std::vector<Path>& gone);
  static void put(Mount& mount, Path point);
  static bool is_in(const Mount& mount, const MountTable& table) { return mount.table_ == &table; }
  static Mount* parent(const Mount& mount) { return mount.point_.mount.get(); }
  static bool is_shared(const Mount& mount) { return mount.peers_ != nullptr; }
  // Mounts that hear of what happens to `mount`, besides itself; bounded by how many there are.
  static std::vector<Mount*> receivers(const Mount& mount);
  // What is unmounted besides `top` (and, recursively, all below it): what sits at the same place of the receivers.
  static std::vector<Mount*> to_remove(Mount& top, bool recursively);
  static void share(Mount& mount);
  static void set_type(Mount& mount, unsigned long type);
  static void tell_of_change(const Mount& mount);
  // Total of all tables.
  static size_t count();

 private:
  struct Spread;
  Result<std::vector<Spread>> spread(const Path& target) const;
};

// A copy, and the mount that it is to be hung up on.
struct MountTree::Spread {
  MountTree tree;
  Mount* where = nullptr;
};

}  // namespace caisson::kernel
