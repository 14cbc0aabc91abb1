#include "kernel/vfs/path.h"

#include <algorithm>

#include "kernel/vfs/walk.h"

namespace caisson::kernel {

InodeRef Path::inode() const { return dentry ? dentry->inode() : nullptr; }

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

MountRef MountTable::at(const Path& point) const {
  std::lock_guard guard(lock_);
  for (auto it = mounts_.rbegin(); it != mounts_.rend(); ++it)
    if ((*it)->point == point) return *it;
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
  mount->root = std::move(root);
  mount->point = point;
  mount->flags = flags;
  mount->source = std::move(source);
  mount->options = std::move(options);
  std::lock_guard guard(lock_);
  if (point.dentry) ++point.dentry->mounted;
  mounts_.push_back(mount);
  return mount;
}

Result<void> MountTable::remove(const MountRef& mount) {
  std::lock_guard guard(lock_);
  for (const MountRef& other : mounts_)
    if (other->point.mount == mount) return Errno(EBUSY);
  const auto found = std::find(mounts_.begin(), mounts_.end(), mount);
  if (found == mounts_.end()) return Errno(EINVAL);
  if (mount->point.dentry) --mount->point.dentry->mounted;
  mounts_.erase(found);
  return {};
}

std::vector<MountRef> MountTable::all() const {
  std::lock_guard guard(lock_);
  return mounts_;
}

}  // namespace caisson::kernel
