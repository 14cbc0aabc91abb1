#include "kernel/vfs/path.h"

#include <algorithm>
#include <utility>

#include "kernel/vfs/notify.h"
#include "kernel/vfs/release.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {

InodeRef Path::inode() const { return dentry ? dentry->inode() : nullptr; }

Dentry::~Dentry() {
  // The last who used a file whose name has gone.
  if (deleted_ && inode_ && anybody_watches()) notify_gone(*inode_);
  release_flat(std::move(parent_));
}

std::string Dentry::name() const {
  std::lock_guard guard(lock_);
  return name_;
}

DentryRef Dentry::parent() const {
  std::lock_guard guard(lock_);
  return parent_;
}

InodeRef Dentry::inode() const {
  std::lock_guard guard(lock_);
  return inode_;
}

DentryRef Dentry::cached(std::string_view name) {
  std::lock_guard guard(lock_);
  const auto found = children_.find(name);
  return found == children_.end() ? nullptr : found->second.lock();
}

DentryRef Dentry::child(std::string_view name, InodeRef inode) {
  DentryRef old;  // dropped outside the lock
  std::lock_guard guard(lock_);
  auto found = children_.find(name);
  if (found != children_.end()) {
    old = found->second.lock();
    if (old && old->inode()->identity() == inode->identity()) return old;
    if (old) old->deleted_ = true;
  } else {
    // Names that nobody uses any more are swept out before the map grows beyond what is in use.
    if (children_.size() >= sweep_at_) {
      std::erase_if(children_, [](const auto& entry) { return entry.second.expired(); });
      sweep_at_ = std::max<size_t>(64, children_.size() * 2);
    }
    found = children_.emplace(std::string(name), std::weak_ptr<Dentry>()).first;
  }
  auto fresh = std::make_shared<Dentry>(std::string(name), shared_from_this(), std::move(inode));
  found->second = fresh;
  return fresh;
}

void Dentry::forget(std::string_view name) {
  DentryRef old;
  std::lock_guard guard(lock_);
  const auto found = children_.find(name);
  if (found == children_.end()) return;
  old = found->second.lock();
  if (old) old->deleted_ = true;
  children_.erase(found);
}

void Dentry::moved(std::string_view name, const DentryRef& to, std::string_view new_name) {
  DentryRef child, replaced;
  {
    std::lock_guard guard(lock_);
    const auto found = children_.find(name);
    if (found != children_.end()) {
      child = found->second.lock();
      children_.erase(found);
    }
  }
  to->forget(new_name);
  if (!child) return;
  {
    std::lock_guard guard(child->lock_);
    child->name_ = new_name;
    child->parent_ = to;
  }
  std::lock_guard guard(to->lock_);
  to->children_[std::string(new_name)] = child;
}

void Mount::count() {
  if (!std::exchange(counted_, true)) ++fs->mounts;
}

Mount::~Mount() {
  if (counted_ && --fs->mounts == 0 && anybody_watches()) notify_unmounted(*fs);
  release_flat(std::move(point_.mount));
  release_flat(std::move(point_.dentry));
  release_flat(std::move(root));
  release_flat(std::move(fs));
}

Path Mount::point() const {
  std::lock_guard guard(lock_);
  return point_;
}

void Mount::set_point(Path point) {
  if (point.dentry) ++point.dentry->mounted;
  {
    std::lock_guard guard(lock_);
    std::swap(point_, point);
  }
  if (point.dentry) --point.dentry->mounted;
}

MountTable::MountTable(std::shared_ptr<UserNamespace> whose) : Namespace(NamespaceKind::Mount, std::move(whose)) {}

MountRef MountTable::at(const Path& point) const {
  std::lock_guard guard(lock_);
  for (auto it = mounts_.rbegin(); it != mounts_.rend(); ++it)
    if ((*it)->point() == point) return *it;
  return nullptr;
}

Result<MountRef> MountTable::add(std::shared_ptr<FileSystem> fs, DentryRef root, const Path& point, unsigned long flags, std::string source,
                                 std::string options) {
  static std::atomic<uint64_t> next_id{20};
  static std::atomic<uint32_t> next_device{30};
  auto mount = std::make_shared<Mount>();
  mount->id = next_id++;
  if (fs->device == 0) fs->device = next_device++;
  mount->fs = std::move(fs);
  mount->count();
  mount->root = std::move(root);
  mount->flags = flags;
  mount->source = std::move(source);
  mount->options = std::move(options);
  std::lock_guard guard(lock_);
  mount->set_point(point);
  mounts_.push_back(mount);
  return mount;
}

namespace {

// Is `place` in this mount, or in one that sits on it?
bool lies_in(const Path& place, const MountRef& mount) {
  for (MountRef at = place.mount; at; at = at->point().mount)
    if (at == mount) return true;
  return false;
}

}  // namespace

bool is_below(DentryRef dentry, const DentryRef& folder) {
  for (; dentry; dentry = dentry->parent())
    if (dentry == folder) return true;
  return false;
}

Result<void> MountTable::remove(const MountRef& mount, bool lazily) {
  std::vector<MountRef> removed;  // freed outside the lock
  std::lock_guard guard(lock_);
  if (std::find(mounts_.begin(), mounts_.end(), mount) == mounts_.end()) return Errno(EINVAL);
  if (!lazily) {
    for (const MountRef& other : mounts_)
      if (other->point().mount == mount) return Errno(EBUSY);
    if (mount.use_count() > 2) return Errno(EBUSY);  // besides the table and the caller
  }
  // Children have their parents' places in their own, so all are found before any is taken away.
  for (const MountRef& other : mounts_)
    if (other == mount || (other->point() && lies_in(other->point(), mount))) removed.push_back(other);
  for (const MountRef& each : removed) std::erase(mounts_, each);
  for (const MountRef& each : removed) each->set_point(Path());
  return {};
}

void MountTable::set_flags(const MountRef& mount, unsigned long flags) {
  std::lock_guard guard(lock_);
  mount->flags = flags;
}

Result<void> MountTable::move(const MountRef& mount, const Path& target) {
  std::lock_guard guard(lock_);
  if (lies_in(target, mount)) return Errno(ELOOP);
  mount->set_point(target);
  // Later mounts hide earlier ones at the same place.
  const auto found = std::find(mounts_.begin(), mounts_.end(), mount);
  if (found == mounts_.end()) return Errno(EINVAL);
  std::rotate(found, found + 1, mounts_.end());
  return {};
}

Result<void> MountTable::pivot(const Path& new_root, const Path& put_old, const MountRef& old_root) {
  std::lock_guard guard(lock_);
  if (!new_root.mount->point() || !lies_in(put_old, new_root.mount)) return Errno(EINVAL);
  const Path above = old_root->point();
  new_root.mount->set_point(above);
  old_root->set_point(put_old);
  const auto found = std::find(mounts_.begin(), mounts_.end(), old_root);
  if (found != mounts_.end()) std::rotate(found, found + 1, mounts_.end());
  return {};
}

std::vector<MountRef> MountTable::all() const {
  std::lock_guard guard(lock_);
  return mounts_;
}

}  // namespace caisson::kernel
