#include "kernel/vfs/path.h"

#include <algorithm>
#include <utility>

#include "kernel/vfs/notify.h"
#include "kernel/vfs/recent.h"
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
    if (old) {
      old->deleted_ = true;
      RecentFolders::drop(*old);
    }
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
  if (old) {
    old->deleted_ = true;
    RecentFolders::drop(*old);
  }
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

}  // namespace caisson::kernel
