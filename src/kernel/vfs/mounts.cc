// Mount and MountTable: what is mounted where. The algorithms are in mount_tree.cc.
#include <sys/mount.h>

#include <algorithm>
#include <utility>

#include "kernel/vfs/mount_tree.h"
#include "kernel/vfs/notify.h"
#include "kernel/vfs/recent.h"
#include "kernel/vfs/release.h"

namespace caisson::kernel {
namespace {

// Is `place` in this mount, or in one that sits on it?
bool lies_in(const Path& place, const MountRef& mount) {
  for (const Mount* at = place.mount.get(); at != nullptr; at = MountTree::parent(*at))
    if (at == mount.get()) return true;
  return false;
}

std::shared_ptr<Mount> new_mount(std::shared_ptr<FileSystem> fs, DentryRef root, unsigned long flags, std::string source,
                                 std::string options) {
  static std::atomic<uint32_t> next_device{30};
  auto mount = std::make_shared<Mount>();
  mount->id = next_mount_id();
  if (fs->device == 0) fs->device = next_device++;
  mount->fs = std::move(fs);
  mount->count();
  mount->root = std::move(root);
  mount->flags = flags;
  mount->source = std::move(source);
  mount->options = std::move(options);
  return mount;
}

// Trees that were not attached after all.
void dissolve(const MountTree& tree, std::vector<Path>& gone) {
  for (auto each = tree.mounts.rbegin(); each != tree.mounts.rend(); ++each) MountTree::unlink(**each, gone);
}

}  // namespace

void Mount::count() {
  if (!std::exchange(counted_, true)) ++fs->mounts;
}

bool is_below(DentryRef dentry, const DentryRef& folder) {
  for (; dentry; dentry = dentry->parent())
    if (dentry == folder) return true;
  return false;
}

Mount::~Mount() {
  if (counted_ && --fs->mounts == 0) {
    RecentFolders::drop_all(*fs);
    if (anybody_watches()) notify_unmounted(*fs);
  }
  release_flat(std::move(point_.mount));
  release_flat(std::move(point_.dentry));
  release_flat(std::move(root));
  release_flat(std::move(fs));
}

Path Mount::point() const {
  std::lock_guard guard(mount_lock());
  return point_;
}

const MountTable* Mount::table() const {
  std::lock_guard guard(mount_lock());
  return table_;
}

MountTable::MountTable(std::shared_ptr<UserNamespace> whose) : Namespace(NamespaceKind::Mount, std::move(whose)) {}

MountTable::~MountTable() {
  std::vector<Path> gone;
  std::lock_guard guard(mount_lock());
  while (!mounts_.empty()) MountTree::unlink(*mounts_.back(), gone);
}

MountRef MountTable::at(const Path& point) {
  std::lock_guard guard(mount_lock());
  const std::vector<Mount*>& children = point.mount->children_;
  for (auto child = children.rbegin(); child != children.rend(); ++child)
    if ((*child)->point_.dentry == point.dentry) return (*child)->shared_from_this();
  return nullptr;
}

Result<void> MountTable::check_target_locked(const Path& target) const {
  if (!MountTree::is_in(*target.mount, *this)) return Errno(EINVAL);
  if (target.dentry->deleted()) return Errno(ENOENT);
  return {};
}

Result<MountRef> MountTable::add(std::shared_ptr<FileSystem> fs, DentryRef root, const Path& point, unsigned long flags, std::string source,
                                 std::string options) {
  MountTree tree;
  tree.mounts.push_back(new_mount(std::move(fs), std::move(root), flags, std::move(source), std::move(options)));
  std::vector<Path> gone;
  std::lock_guard guard(mount_lock());
  if (!point) {
    MountTree::link(*tree.mounts[0], *this, Path());
    return tree.mounts[0];
  }
  TRY(check_target_locked(point));
  Result<void> attached = tree.attach(*this, point);
  if (!attached) {
    dissolve(tree, gone);
    return attached.error();
  }
  return tree.mounts[0];
}

Result<void> MountTable::may_be_bound_locked(const Path& source, bool recursive) const {
  // What is in no table (a file of /proc/PID/ns, another namespace's bind of it) is bindable where it has nothing below it.
  const bool ours = MountTree::is_in(*source.mount, *this);
  if (!ours && !source.mount->fs->names_say_all()) return Errno(EINVAL);
  if (source.mount->unbindable_) return Errno(EINVAL);
  for (const Mount* child : source.mount->children_)
    if (!recursive && child->locked_ && is_below(child->point_.dentry, source.dentry)) return Errno(EINVAL);
  return {};
}

Result<void> MountTable::bind(const Path& source, const Path& target, bool recursive) {
  std::vector<Path> gone;
  MountTree tree;
  std::lock_guard guard(mount_lock());
  TRY(may_be_bound_locked(source, recursive));
  TRY(check_target_locked(target));
  tree = MountTree::copy(*source.mount, source.dentry, recursive, {});
  Result<void> attached = tree.attach(*this, target);
  if (!attached) dissolve(tree, gone);
  return attached;
}

Result<void> MountTable::remove(const MountRef& mount, bool lazily) {
  std::vector<Path> gone;  // freed outside the lock
  std::lock_guard guard(mount_lock());
  if (!MountTree::is_in(*mount, *this) || mount->locked_) return Errno(EINVAL);
  if (!lazily) {
    if (!mount->children_.empty()) return Errno(EBUSY);
    if (mount.use_count() > 2) return Errno(EBUSY);  // besides the table and the caller
  }
  const std::vector<Mount*> doomed = MountTree::to_remove(*mount, lazily);
  for (auto each = doomed.rbegin(); each != doomed.rend(); ++each) MountTree::unlink(**each, gone);
  return {};
}

Result<void> MountTable::set_flags(const MountRef& mount, unsigned long flags) {
  std::lock_guard guard(mount_lock());
  if (!MountTree::is_in(*mount, *this)) return Errno(EINVAL);
  if ((mount->locked_flags & ~flags) != 0) return Errno(EPERM);
  mount->flags = flags;
  MountTree::tell_of_change(*mount);
  return {};
}

Result<void> MountTable::set_propagation(const MountRef& mount, unsigned long type, bool recursive) {
  MountTree tree;
  std::lock_guard guard(mount_lock());
  if (!MountTree::is_in(*mount, *this)) return Errno(EINVAL);
  if (recursive)
    tree = MountTree::of(*mount);
  else
    tree.mounts.push_back(mount);
  for (const MountRef& each : tree.mounts) MountTree::set_type(*each, type);
  MountTree::tell_of_change(*mount);
  return {};
}

Result<void> MountTable::move(const MountRef& mount, const Path& target) {
  MountTree tree;
  std::lock_guard guard(mount_lock());
  if (!MountTree::is_in(*mount, *this) || !mount->point_ || mount->locked_) return Errno(EINVAL);
  TRY(check_target_locked(target));
  if (lies_in(target, mount)) return Errno(ELOOP);
  if (MountTree::is_shared(*mount->point_.mount)) return Errno(EINVAL);
  tree = MountTree::of(*mount);
  if (MountTree::is_shared(*target.mount))
    for (const MountRef& each : tree.mounts)
      if (each->unbindable_) return Errno(EINVAL);
  return tree.move(*this, target);
}

Result<void> MountTable::pivot(const Path& new_root, const Path& put_old, const MountRef& old_root) {
  std::vector<Path> gone;
  std::lock_guard guard(mount_lock());
  const Mount* const parent = MountTree::parent(*new_root.mount);
  for (const MountRef& each : {new_root.mount, put_old.mount, old_root})
    if (!MountTree::is_in(*each, *this)) return Errno(EINVAL);
  if (parent == nullptr || !lies_in(put_old, new_root.mount) || new_root.mount->locked_) return Errno(EINVAL);
  const Mount* const above = MountTree::parent(*old_root);
  if (MountTree::is_shared(*put_old.mount) || MountTree::is_shared(*parent) || (above != nullptr && MountTree::is_shared(*above)))
    return Errno(EINVAL);
  const Path old_place = old_root->point_;
  MountTree::take_off(*new_root.mount, gone);
  MountTree::take_off(*old_root, gone);
  MountTree::put(*new_root.mount, old_place);
  MountTree::put(*old_root, put_old);
  if (old_root->locked_) {
    old_root->locked_ = false;
    new_root.mount->locked_ = true;
  }
  const auto found = std::find(mounts_.begin(), mounts_.end(), old_root);
  if (found != mounts_.end()) std::rotate(found, found + 1, mounts_.end());
  return {};
}

Result<std::shared_ptr<MountTable>> MountTable::copy(std::shared_ptr<UserNamespace> whose, std::initializer_list<Path*> places) {
  TRY(may_make_namespace(NamespaceKind::Mount));
  const auto table = std::make_shared<MountTable>(std::move(whose));
  std::vector<Path> gone;
  std::lock_guard guard(mount_lock());
  const auto root = std::find_if(mounts_.begin(), mounts_.end(), [](const MountRef& each) { return !each->point_; });
  if (root == mounts_.end()) return Errno(EINVAL);
  if (MountTree::count() + mounts_.size() > kMostOfAll) return Errno(ENOSPC);
  const bool less = table->owner != owner;
  const MountTree::Options options{less ? MountTree::As::Slave : MountTree::As::Copy, less, false, true};
  MountTree::Twins twins;
  const MountTree to = MountTree::copy(**root, (*root)->root, true, options, &twins);
  for (const MountRef& each : to.mounts) MountTree::link(*each, *table, each->point_);
  for (Path* place : places) {
    const auto found = twins.find(place->mount.get());
    if (found == twins.end()) continue;
    gone.push_back({place->mount, nullptr});
    place->mount = found->second;
  }
  return table;
}

Result<std::shared_ptr<MountTable>> MountTree::clone_detached(const MountTable& from, const Path& source, bool recursive,
                                                              std::shared_ptr<UserNamespace> owner) {
  const auto table = std::make_shared<MountTable>(std::move(owner));
  std::vector<Path> gone;
  MountTree original, made;
  std::lock_guard guard(mount_lock());
  TRY(from.may_be_bound_locked(source, recursive));
  original = of(*source.mount);
  if (count() + original.mounts.size() > MountTable::kMostOfAll || original.mounts.size() > MountTable::kMostMounts) return Errno(ENOSPC);
  made = copy(*source.mount, source.dentry, recursive, {});
  for (const MountRef& each : made.mounts) link(*each, *table, each->point_);
  return table;
}

Result<void> MountTree::attach_detached(MountTable& detached, MountTable& to, const Path& target) {
  std::vector<Path> gone;  // freed outside the lock
  MountTree tree;
  std::lock_guard guard(mount_lock());
  TRY(to.check_target_locked(target));
  tree.mounts = detached.mounts_;
  if (tree.mounts.empty() || tree.mounts[0]->point_ || lies_in(target, tree.mounts[0])) return Errno(EINVAL);
  if (is_shared(*target.mount))
    for (const MountRef& each : tree.mounts)
      if (each->unbindable_) return Errno(EINVAL);
  // Parents before children; where each is, is kept while it is nowhere.
  for (auto each = tree.mounts.rbegin(); each != tree.mounts.rend(); ++each) {
    const Path point = (*each)->point_;
    take_off(**each, gone);
    (*each)->point_ = point;
    (*each)->table_ = nullptr;
    --g_mount_count;
  }
  detached.mounts_.clear();
  Result<void> attached = tree.attach(to, target);
  if (attached) return {};
  for (const MountRef& each : tree.mounts) link(*each, detached, each->point_);
  return attached;
}

std::vector<MountRef> MountTable::all() const {
  std::lock_guard guard(mount_lock());
  return mounts_;
}

std::vector<MountRef> MountTable::below(const MountRef& top) const {
  std::lock_guard guard(mount_lock());
  return MountTree::of(*top).mounts;
}

PropagationFacts MountTable::propagation(const MountRef& mount) {
  std::lock_guard guard(mount_lock());
  return {mount->peers_ ? mount->peers_->id : 0, mount->master_ ? mount->master_->id : 0, mount->unbindable_};
}

}  // namespace caisson::kernel
