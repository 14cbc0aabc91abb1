// Names in a tmpfs.
#include <linux/fs.h>
#include <stdio.h>

#include <algorithm>

#include "kernel/fs/tmpfs/files.h"
#include "kernel/fs/tmpfs/tmpfs.h"
#include "kernel/task/task.h"
#include "kernel/vfs/release.h"

namespace caisson::kernel {

TmpfsFolder::~TmpfsFolder() {
  for (auto& [name, child] : children_) release_flat(std::move(child.inode));
}

std::shared_ptr<TmpfsInode> TmpfsFolder::find(std::string_view name) const {
  std::lock_guard guard(tmpfs.lock);
  const auto found = children_.find(name);
  return found == children_.end() ? nullptr : found->second.inode;
}

Result<InodeRef> TmpfsFolder::lookup(Task&, std::string_view name) {
  std::shared_ptr<TmpfsInode> found = find(name);
  if (!found) return Errno(name.size() > 255 ? ENAMETOOLONG : ENOENT);
  return InodeRef(std::move(found));
}

void TmpfsFolder::touch_locked() { node.mtime = node.ctime = now_realtime(); }

Result<void> TmpfsFolder::insert_locked(std::string_view name, std::shared_ptr<TmpfsInode> inode) {
  if (name.size() > 255) return Errno(ENAMETOOLONG);
  if (removed_) return Errno(ENOENT);
  const bool folder = S_ISDIR(inode->node.mode);
  const auto [child, fresh] = children_.emplace(std::string(name), Child{std::move(inode), next_place_});
  if (!fresh) return Errno(EEXIST);
  order_.emplace(next_place_++, child);
  if (folder) ++node.links;
  node.size += 20;  // as Linux counts a tmpfs folder's entries
  touch_locked();
  return {};
}

void TmpfsFolder::erase_locked(Children::iterator child) {
  if (S_ISDIR(child->second.inode->node.mode)) --node.links;
  node.size -= 20;
  order_.erase(child->second.place);
  children_.erase(child);
  touch_locked();
}

Result<void> TmpfsFolder::insert(std::string_view name, std::shared_ptr<TmpfsInode> inode) {
  std::lock_guard guard(tmpfs.lock);
  return insert_locked(name, std::move(inode));
}

// A new node as mkdir(2) and mknod(2) make it here: the group is the folder's where the folder is set-group-id.
Result<NodeStat> TmpfsFolder::new_node(Task& task, mode_t mode_and_type) {
  NodeStat made = NodeStat::make(TRY(tmpfs.take_inode()), mode_and_type, task.creds->fsuid, task.creds->fsgid);
  std::lock_guard guard(tmpfs.lock);
  if ((node.mode & S_ISGID) != 0) {
    made.gid = node.gid;
    if (S_ISDIR(mode_and_type))
      made.mode |= S_ISGID;
    else if ((made.mode & S_IXGRP) != 0 && !task.creds->in_group(node.gid) && !task.creds->has(kCapFsetid))
      made.mode &= ~static_cast<mode_t>(S_ISGID);
  }
  return made;
}

Result<InodeRef> TmpfsFolder::make(Task& task, std::string_view name, mode_t mode_and_type, dev_t device) {
  const auto fs = tmpfs.shared_from_this();
  NodeStat made = TRY(new_node(task, mode_and_type));
  std::shared_ptr<TmpfsInode> inode;
  switch (mode_and_type & S_IFMT) {
    case S_IFREG:
      inode = std::make_shared<TmpfsRegular>(fs, made);
      break;
    case S_IFDIR:
      made.links = 2;
      inode = std::make_shared<TmpfsFolder>(fs, made);
      break;
    case S_IFCHR:
    case S_IFBLK:
      made.device = device;
      [[fallthrough]];
    case S_IFIFO:
    case S_IFSOCK:
      inode = std::make_shared<TmpfsInode>(fs, made);
      break;
    default:
      tmpfs.free_inode();
      return Errno(EINVAL);
  }
  TRY(insert(name, inode));
  return InodeRef(std::move(inode));
}

Result<InodeRef> TmpfsFolder::make_link(Task& task, std::string_view name, std::string_view target) {
  if (target.size() >= 4096) return Errno(ENAMETOOLONG);
  NodeStat made = TRY(new_node(task, S_IFLNK | 0777));
  made.size = target.size();
  auto inode = std::make_shared<TmpfsLink>(tmpfs.shared_from_this(), made, std::string(target));
  TRY(insert(name, inode));
  return InodeRef(std::move(inode));
}

Result<void> TmpfsFolder::link(Task&, std::string_view name, const InodeRef& existing) {
  const auto inode = std::dynamic_pointer_cast<TmpfsInode>(existing);
  if (!inode || &inode->tmpfs != &tmpfs) return Errno(EXDEV);
  std::lock_guard guard(tmpfs.lock);
  if (S_ISDIR(inode->node.mode)) return Errno(EPERM);
  if (inode->node.links >= 65000) return Errno(EMLINK);
  TRY(insert_locked(name, inode));
  ++inode->node.links;
  inode->node.ctime = now_realtime();
  return {};
}

Result<void> TmpfsFolder::unlink(Task&, std::string_view name) {
  std::shared_ptr<TmpfsInode> inode;  // its content is freed outside the lock
  std::lock_guard guard(tmpfs.lock);
  const auto child = children_.find(name);
  if (child == children_.end()) return Errno(ENOENT);
  inode = child->second.inode;
  if (S_ISDIR(inode->node.mode)) return Errno(EISDIR);
  erase_locked(child);
  --inode->node.links;
  inode->node.ctime = now_realtime();
  return {};
}

Result<void> TmpfsFolder::remove_folder(Task&, std::string_view name) {
  std::shared_ptr<TmpfsInode> inode;
  std::lock_guard guard(tmpfs.lock);
  const auto child = children_.find(name);
  if (child == children_.end()) return Errno(ENOENT);
  inode = child->second.inode;
  auto* folder = dynamic_cast<TmpfsFolder*>(inode.get());
  if (folder == nullptr) return Errno(ENOTDIR);
  if (!folder->children_.empty()) return Errno(ENOTEMPTY);
  folder->removed_ = true;
  folder->node.links = 0;
  erase_locked(child);
  return {};
}

// Makes room for `by` at the name that `target` is: an empty folder for a folder, anything else for anything else.
Result<void> TmpfsFolder::replace_locked(Children::iterator target, const TmpfsInode& by) {
  TmpfsInode& old = *target->second.inode;
  auto* folder = dynamic_cast<TmpfsFolder*>(&old);
  if (folder != nullptr && !S_ISDIR(by.node.mode)) return Errno(EISDIR);
  if (folder == nullptr && S_ISDIR(by.node.mode)) return Errno(ENOTDIR);
  if (folder != nullptr && !folder->children_.empty()) return Errno(ENOTEMPTY);
  if (folder != nullptr) {
    folder->removed_ = true;
    folder->node.links = 0;
  } else {
    --old.node.links;
    old.node.ctime = now_realtime();
  }
  erase_locked(target);
  return {};
}

Result<void> TmpfsFolder::exchange_locked(Children::iterator from, TmpfsFolder& to, std::string_view new_name) {
  const auto other = to.children_.find(new_name);
  if (other == to.children_.end()) return Errno(ENOENT);
  const int32_t change = S_ISDIR(other->second.inode->node.mode) - S_ISDIR(from->second.inode->node.mode);
  std::swap(from->second.inode, other->second.inode);
  node.links += static_cast<uint32_t>(change);
  to.node.links -= static_cast<uint32_t>(change);
  touch_locked();
  to.touch_locked();
  from->second.inode->node.ctime = other->second.inode->node.ctime = now_realtime();
  return {};
}

Result<void> TmpfsFolder::rename(Task&, std::string_view name, Inode& to_inode, std::string_view new_name, unsigned flags) {
  auto* to = dynamic_cast<TmpfsFolder*>(&to_inode);
  if (to == nullptr || &to->tmpfs != &tmpfs) return Errno(EXDEV);
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) return Errno(EINVAL);
  std::shared_ptr<TmpfsInode> moved, replaced;
  std::lock_guard guard(tmpfs.lock);
  const auto from = children_.find(name);
  if (from == children_.end()) return Errno(ENOENT);
  if (to->removed_) return Errno(ENOENT);
  if (new_name.size() > 255) return Errno(ENAMETOOLONG);
  if ((flags & RENAME_EXCHANGE) != 0) return exchange_locked(from, *to, new_name);
  moved = from->second.inode;
  const auto target = to->children_.find(new_name);
  if (target != to->children_.end()) {
    if ((flags & RENAME_NOREPLACE) != 0) return Errno(EEXIST);
    replaced = target->second.inode;
    if (replaced == moved) return {};  // two names of one file: nothing is done (rename(2))
    TRY(to->replace_locked(target, *moved));
  }
  erase_locked(from);
  TRY(to->insert_locked(new_name, moved));
  moved->node.ctime = now_realtime();
  return {};
}

Result<FileRef> TmpfsFolder::make_unnamed(Task& task, const Path& path, int flags, mode_t mode) {
  NodeStat made = TRY(new_node(task, S_IFREG | mode));
  made.links = 0;
  auto inode = std::make_shared<TmpfsRegular>(tmpfs.shared_from_this(), made);
  // It has a place for /proc/self/fd, but no name that a walk finds.
  const std::string name = "#" + std::to_string(made.inode);
  auto dentry = std::make_shared<Dentry>(name, path.dentry, inode);
  dentry->mark_deleted();
  return FileRef(std::make_shared<TmpfsFile>(inode, Path{path.mount, dentry}, flags));
}

std::vector<TmpfsFolder::Listed> TmpfsFolder::list(int64_t position, size_t most) const {
  std::vector<Listed> result;
  std::lock_guard guard(tmpfs.lock);
  for (auto it = order_.lower_bound(position); it != order_.end() && result.size() < most; ++it) {
    const NodeStat& child = it->second->second.inode->node;
    result.push_back({it->second->first, child.inode, entry_type(child.mode), it->first + 1});
  }
  return result;
}

Result<FileRef> TmpfsFolder::open(Task&, const Path& path, int flags) {
  return FileRef(std::make_shared<TmpfsFolderFile>(std::static_pointer_cast<TmpfsFolder>(path.inode()), path, flags));
}

}  // namespace caisson::kernel
