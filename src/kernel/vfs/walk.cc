#include "kernel/vfs/walk.h"

#include <limits.h>

#include "kernel/task/task.h"
#include "kernel/vfs/file.h"
#include "kernel/vfs/notify.h"
#include "kernel/vfs/recent.h"

namespace caisson::kernel {
namespace {

constexpr int kMostLinks = 40;

bool is_folder(const Path& path) { return (path.inode()->type() & S_IFMT) == S_IFDIR; }
bool is_link(const Path& path) { return (path.inode()->type() & S_IFMT) == S_IFLNK; }

// The topmost mount on a place, with what lies on that in turn.
Path cross_mounts(Path path) {
  while (path.dentry->mounted > 0) {
    const MountRef mount = MountTable::at(path);
    if (!mount) break;
    path = {mount, mount->root};
  }
  return path;
}

Path go_up(const Path& root, Path at) {
  if (at == root) return at;
  while (at.dentry == at.mount->root) {
    const Path point = at.mount->point();
    if (!point) return at;
    at = point;
    if (at == root) return at;
  }
  const DentryRef parent = at.dentry->parent();
  if (parent) at.dentry = parent;
  return cross_mounts(at);
}

// One walk: what is left of the text, and how many links were followed.
class Walker {
 public:
  Walker(Task& task, Path start) : task_(task), root_(task.fs->root()), at_(std::move(start)) {}

  Result<Path> walk(std::string_view path, unsigned flags) {
    std::string rest(path);
    TRY(go(rest, flags, nullptr));
    if ((flags & kWalkFolder) != 0 && !is_folder(at_)) return Errno(ENOTDIR);
    return at_;
  }

  Result<LastName> walk_to_last(std::string_view path) {
    LastName last;
    last.trailing_slash = path.size() > 1 && path.back() == '/';
    TRY(go(std::string(path), 0, &last));
    last.folder = at_;
    return last;
  }

 private:
  // Walks all of the text; with `last`, all but the last component, which it gives back.
  Result<void> go(std::string path, unsigned flags, LastName* last) {
    if (path.starts_with('/')) at_ = root_;
    const bool must_be_folder = path.ends_with('/') && last == nullptr;
    size_t position = 0;
    for (;;) {
      while (position < path.size() && path[position] == '/') ++position;
      if (position >= path.size()) break;
      const bool follow_last = (flags & kWalkNoFollow) == 0 || must_be_folder;
      if (TRY(jump(path, position, last != nullptr, follow_last))) continue;
      size_t end = path.find('/', position);
      if (end == path.npos) end = path.size();
      const std::string name = path.substr(position, end - position);
      position = end;
      while (position < path.size() && path[position] == '/') ++position;
      const bool is_last = position >= path.size();
      if (name.size() > NAME_MAX) return Errno(ENAMETOOLONG);
      if (!is_folder(at_)) return Errno(ENOTDIR);
      if (is_last && last != nullptr) {
        last->name = name;
        return {};
      }
      TRY(permission(task_, *at_.inode(), X_OK));
      const bool follow = !is_last || (flags & kWalkNoFollow) == 0 || must_be_folder;
      TRY(step(name, follow, flags));
    }
    if (must_be_folder && !is_folder(at_)) return Errno(ENOTDIR);
    return {};
  }

  // The names that can be walked in one go: those of folders of the host that are in use, or were lately, and one behind them.
  struct Row {
    std::string names, name;  // all of them, and the last one
    DentryRef folder;         // where that one is
    size_t end = 0, count = 0;
    bool whole = false;  // they are all that is left
  };
  Row row_of(const std::string& path, size_t position, bool spare_last) const {
    Row row;
    DentryRef at = at_.dentry;
    while (position < path.size()) {
      const size_t end = std::min(path.find('/', position), path.size());
      const std::string_view name(path.data() + position, end - position);
      position = std::min(path.find_first_not_of('/', end), path.size());
      const bool is_last = position == path.size();
      if (name == "." || name == ".." || name.size() > NAME_MAX || (is_last && spare_last)) break;
      const DentryRef child = at->cached(name);
      if (child && child->mounted > 0) break;
      const bool known = child && !child->deleted() && child->inode()->host_fd() >= 0 && child->inode()->type() == S_IFDIR;
      if (!known && !is_last) break;
      if (row.count++ > 0) row.names += '/';
      row.names += name;
      row.name = name;
      row.folder = std::exchange(at, child);
      row.end = position;
      row.whole = is_last;
    }
    return row;
  }

  // Walks several names with one call of the host's, which says whether they still lead where they did. False: to be walked one by one.
  Result<bool> jump(const std::string& path, size_t& position, bool spare_last, bool follow_last) {
    if (jumped_in_vain_ || at_.inode()->host_fd() < 0 || !is_folder(at_)) return false;
    Row row = row_of(path, position, spare_last);
    if (row.count < 2) return false;
    jumped_in_vain_ = true;
    Result<InodeRef> found = at_.inode()->lookup(task_, row.names);
    if (!found) {
      if (found.error() != Errno(ENOENT) || !row.whole) return false;
      row.folder->forget(row.name);
      return Errno(ENOENT);
    }
    const mode_t type = (*found)->type();
    DentryRef there;
    if (type == S_IFDIR) {
      // Only where it was before: a folder's name must lead up again to where it has been found.
      there = row.folder->cached(row.name);
      if (!there || there->deleted() || there->inode()->identity() != (*found)->identity()) return false;
    } else if (!row.whole || (type == S_IFLNK && follow_last)) {
      return false;
    } else {
      there = row.folder->child(row.name, *std::move(found));
    }
    jumped_in_vain_ = false;
    at_.dentry = there;
    position = row.end;
    return true;
  }

  Result<void> step(const std::string& name, bool follow, unsigned flags) {
    if (name == ".") return {};
    if (name == "..") {
      at_ = go_up(root_, at_);
      return {};
    }
    const Path folder = at_;
    at_ = TRY(walk_child(task_, folder, name));
    if (!follow || !is_link(at_)) return {};
    if (++links_ > kMostLinks) return Errno(ELOOP);
    const InodeRef link = at_.inode();
    const Path magic = TRY(link->follow(task_));
    if (magic) {
      if ((flags & kWalkNoMagicLinks) != 0) return Errno(ELOOP);
      at_ = magic;
      return {};
    }
    const std::string target = TRY(link->read_link(task_));
    if (target.empty()) return Errno(ENOENT);
    if (target.size() >= PATH_MAX) return Errno(ENAMETOOLONG);
    at_ = folder;
    return go(target, 0, nullptr);
  }

  Task& task_;
  Path root_, at_;
  int links_ = 0;
  bool jumped_in_vain_ = false;
};

}  // namespace

Result<Path> walk_start(Task& task, int dirfd, std::string_view path) {
  if (path.starts_with('/')) return task.fs->root();
  if (dirfd == AT_FDCWD) return task.fs->cwd();
  const FileRef file = TRY(task.fds->get(dirfd));
  if (!file->path()) return Errno(ENOTDIR);
  if (!path.empty() && !is_folder(file->path())) return Errno(ENOTDIR);
  return file->path();
}

Result<Path> walk_from(Task& task, const Path& start, std::string_view path, unsigned flags) {
  if (path.empty()) {
    if ((flags & kWalkEmptyPath) == 0) return Errno(ENOENT);
    return start;
  }
  if (path.size() >= PATH_MAX) return Errno(ENAMETOOLONG);
  return Walker(task, start).walk(path, flags);
}

Result<Path> walk(Task& task, int dirfd, std::string_view path, unsigned flags) {
  if (path.empty() && (flags & kWalkEmptyPath) == 0) return Errno(ENOENT);
  const Path start = TRY(walk_start(task, dirfd, path));
  return walk_from(task, start, path, flags);
}

Result<LastName> walk_to_last(Task& task, int dirfd, std::string_view path) {
  if (path.empty()) return Errno(ENOENT);
  if (path.size() >= PATH_MAX) return Errno(ENAMETOOLONG);
  const Path start = TRY(walk_start(task, dirfd, path));
  return Walker(task, start).walk_to_last(path);
}

Result<Path> walk_child(Task& task, const Path& folder, std::string_view name) {
  const InodeRef inode = folder.inode();
  DentryRef child = folder.dentry->cached(name);
  // What is mounted on stays, whatever becomes of the name below it.
  if (child && !child->deleted() && (child->mounted > 0 || inode->names_are_stable())) return cross_mounts({folder.mount, child});
  Result<InodeRef> found = inode->lookup(task, name);
  if (!found) {
    if (child && found.error() == Errno(ENOENT)) folder.dentry->forget(name);
    return found.error();
  }
  child = folder.dentry->child(name, *std::move(found));
  if (child->inode()->host_fd() >= 0 && child->inode()->type() == S_IFDIR) RecentFolders::keep(child);
  return cross_mounts({folder.mount, child});
}

std::string path_text(Task& task, const Path& path) {
  const Path root = task.fs->root();
  std::string text;
  Path at = path;
  const bool deleted = at.dentry && at.dentry->deleted();
  if (at.dentry && at.dentry != at.mount->root && at.mount->fs->names_say_all()) return at.dentry->name();
  while (at && !(at == root) && text.size() < 65536) {
    if (at.dentry == at.mount->root) {
      const Path point = at.mount->point();
      if (!point) {
        if (at.mount != root.mount) text = "(unreachable)" + text;
        break;
      }
      at = point;
      continue;
    }
    text = "/" + at.dentry->name() + text;
    at.dentry = at.dentry->parent();
  }
  if (text.empty()) text = "/";
  if (deleted) text += " (deleted)";
  return text;
}

Result<void> Inode::access(Task& task, int mode, bool effective) {
  const struct statx stat = TRY(this->stat());
  const Credentials& creds = *task.creds;
  const uid_t uid = effective ? creds.fsuid : creds.uid;
  const gid_t gid = effective ? creds.fsgid : creds.gid;
  uint64_t capabilities = effective ? creds.effective : (creds.uid == creds.root() ? creds.permitted : 0);
  if (!creds.user->is_initial() && (!creds.user->from_kernel(UserNamespace::Ids::Users, stat.stx_uid) ||
                                    !creds.user->from_kernel(UserNamespace::Ids::Groups, stat.stx_gid)))
    capabilities = 0;
  const bool folder = (stat.stx_mode & S_IFMT) == S_IFDIR;
  int granted = stat.stx_mode & 7;
  if (uid == stat.stx_uid)
    granted = stat.stx_mode >> 6 & 7;
  else if (gid == stat.stx_gid || creds.in_group(stat.stx_gid))
    granted = stat.stx_mode >> 3 & 7;
  if ((mode & ~granted & 7) == 0) return {};
  const bool any_execute = (stat.stx_mode & 0111) != 0;
  if ((capabilities >> kCapDacOverride & 1) != 0 && (folder || (mode & X_OK) == 0 || any_execute)) return {};
  if ((capabilities >> kCapDacReadSearch & 1) != 0 && (mode & W_OK) == 0 && (folder || (mode & X_OK) == 0)) return {};
  return Errno(EACCES);
}

Result<void> permission(Task& task, Inode& inode, int mode) {
  if (inode.host_fd() >= 0) return {};  // the host looks at it, as the task's identity
  return inode.access(task, mode, true);
}

Result<void> may_take_out(Task& task, Inode& folder, Inode& file) {
  if (folder.host_fd() >= 0) return {};
  const struct statx outside = TRY(folder.stat());
  if ((outside.stx_mode & S_ISVTX) == 0 || outside.stx_uid == task.creds->fsuid) return {};
  const struct statx inside = TRY(file.stat());
  if (inside.stx_uid == task.creds->fsuid || task.creds->has_over(kCapFowner, inside.stx_uid, inside.stx_gid)) return {};
  return Errno(EPERM);
}

Result<void> may_link(Task& task, Inode& file) {
  if (file.host_fd() >= 0) return {};
  const struct statx stat = TRY(file.stat());
  if (stat.stx_uid == task.creds->fsuid || task.creds->has_over(kCapFowner, stat.stx_uid, stat.stx_gid)) return {};
  const bool gives_rights = (stat.stx_mode & S_ISUID) != 0 || (stat.stx_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
  if (!S_ISREG(stat.stx_mode) || gives_rights || !permission(task, file, R_OK | W_OK)) return Errno(EPERM);
  return {};
}

Result<FileRef> open_place(Task& task, const Path& path, int flags) {
  const InodeRef inode = path.inode();
  const mode_t type = inode->type() & S_IFMT;
  if ((flags & O_DIRECTORY) != 0 && type != S_IFDIR) return Errno(ENOTDIR);
  if ((flags & O_PATH) != 0) return inode->open(task, path, flags & (O_PATH | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW));
  if (type == S_IFLNK) return Errno(ELOOP);
  const int access = flags & O_ACCMODE;
  const bool writes = access != O_RDONLY || (flags & O_TRUNC) != 0;
  if (type == S_IFDIR && writes) return Errno(EISDIR);
  if (writes && path.mount->read_only() && (type == S_IFREG || type == S_IFDIR)) return Errno(EROFS);
  if ((flags & kOpenTrusted) == 0) {
    const int mode = access == O_RDONLY ? R_OK : access == O_WRONLY ? W_OK : R_OK | W_OK;
    TRY(permission(task, *inode, mode | ((flags & O_TRUNC) != 0 ? W_OK : 0)));
  }
  if ((type == S_IFCHR || type == S_IFBLK) && (path.mount->flags & 4 /* MS_NODEV */) != 0) return Errno(EACCES);
  FileRef file = TRY(inode->open(task, path, flags));
  notify(path, IN_OPEN);
  if ((flags & O_TRUNC) != 0 && type == S_IFREG) notify(path, IN_MODIFY);
  return file;
}

namespace {

Result<FileRef> open_or_make(Task& task, const Path& start, const std::string& path, int flags, mode_t mode, int depth) {
  if (depth > kMostLinks) return Errno(ELOOP);
  if (path.empty()) return Errno(ENOENT);
  if (path.size() >= PATH_MAX) return Errno(ENAMETOOLONG);
  const LastName last = TRY(Walker(task, start).walk_to_last(path));
  if (last.name.empty() || last.name == "." || last.name == ".." || last.trailing_slash) {
    if ((flags & O_EXCL) != 0 && !last.trailing_slash) return Errno(EEXIST);
    return Errno(EISDIR);
  }
  TRY(permission(task, *last.folder.inode(), X_OK));
  Result<Path> found = walk_child(task, last.folder, last.name);
  if (found) {
    if ((flags & O_EXCL) != 0) return Errno(EEXIST);
    if (!is_link(*found)) return open_place(task, *found, flags);
    if ((flags & O_NOFOLLOW) != 0) return Errno(ELOOP);
    const Path magic = TRY(found->inode()->follow(task));
    if (magic) return open_place(task, magic, flags);
    // A link's target is made where the link points to.
    const std::string target = TRY(found->inode()->read_link(task));
    Result<Path> there = walk_from(task, last.folder, last.name);
    if (there) return open_place(task, *there, flags);
    if (there.error() != Errno(ENOENT)) return there.error();
    return open_or_make(task, last.folder, target, flags, mode, depth + 1);
  }
  if (found.error() != Errno(ENOENT)) return found.error();
  if (last.folder.mount->read_only()) return Errno(EROFS);
  if (last.folder.dentry->deleted()) return Errno(ENOENT);
  TRY(permission(task, *last.folder.inode(), W_OK | X_OK));
  Result<InodeRef> made = last.folder.inode()->make(task, last.name, S_IFREG | (mode & 07777 & ~task.fs->umask.load()), 0);
  if (!made) {
    if (made.error() == Errno(EEXIST) && (flags & O_EXCL) == 0) return open_or_make(task, start, path, flags, mode, depth + 1);
    return made.error();
  }
  const Path place{last.folder.mount, last.folder.dentry->child(last.name, *std::move(made))};
  notify_entry(last.folder, IN_CREATE, last.name);
  return open_place(task, place, (flags & ~(O_TRUNC | O_EXCL | O_CREAT)) | kOpenTrusted);
}

}  // namespace

Result<FileRef> open_path(Task& task, int dirfd, std::string_view path, int flags, mode_t mode) {
  if ((flags & O_PATH) != 0) flags &= O_PATH | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW;
  if ((flags & O_TMPFILE) == O_TMPFILE) {
    const Path folder = TRY(walk(task, dirfd, path, kWalkFolder));
    if ((flags & O_ACCMODE) == O_RDONLY) return Errno(EINVAL);
    if (folder.mount->read_only()) return Errno(EROFS);
    TRY(permission(task, *folder.inode(), W_OK | X_OK));
    return folder.inode()->make_unnamed(task, folder, flags, mode & 07777 & ~task.fs->umask.load());
  }
  if ((flags & O_CREAT) != 0) {
    if ((flags & O_DIRECTORY) != 0) return Errno(EINVAL);
    const Path start = TRY(walk_start(task, dirfd, path));
    return open_or_make(task, start, std::string(path), flags, mode, 0);
  }
  const Path place = TRY(walk(task, dirfd, path, (flags & O_NOFOLLOW) != 0 ? kWalkNoFollow : 0));
  return open_place(task, place, flags);
}

}  // namespace caisson::kernel
