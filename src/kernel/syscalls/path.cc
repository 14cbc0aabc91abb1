// Names: stat, make, remove, rename, links, attributes, the working folder.
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <utime.h>

#include <algorithm>

#include "kernel/fs/dev/device_rules.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/vfs/notify.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

using Text = UserPtr<const char>;

// Owner and group as the task's user namespace names them.
struct statx shown_to(const Task& task, struct statx stat) {
  const UserNamespace& user = *task.creds->user;
  if (user.is_initial()) return stat;
  stat.stx_uid = user.shown(UserNamespace::Ids::Users, stat.stx_uid);
  stat.stx_gid = user.shown(UserNamespace::Ids::Groups, stat.stx_gid);
  return stat;
}

struct stat to_stat(const struct statx& from) {
  struct stat to {};
  to.st_dev = makedev(from.stx_dev_major, from.stx_dev_minor);
  to.st_ino = from.stx_ino;
  to.st_nlink = from.stx_nlink;
  to.st_mode = from.stx_mode;
  to.st_uid = from.stx_uid;
  to.st_gid = from.stx_gid;
  to.st_rdev = makedev(from.stx_rdev_major, from.stx_rdev_minor);
  to.st_size = static_cast<off_t>(from.stx_size);
  to.st_blksize = from.stx_blksize;
  to.st_blocks = static_cast<blkcnt_t>(from.stx_blocks);
  to.st_atim = {from.stx_atime.tv_sec, from.stx_atime.tv_nsec};
  to.st_mtim = {from.stx_mtime.tv_sec, from.stx_mtime.tv_nsec};
  to.st_ctim = {from.stx_ctime.tv_sec, from.stx_ctime.tv_nsec};
  return to;
}

// Of a path, or, with AT_EMPTY_PATH and no text, of a descriptor.
// What a call that tells of a file is about: a place, or an open file, which may have none (a pipe).
struct Told {
  Path place;
  FileRef file;
  Result<struct statx> stat() const { return file ? file->stat() : place.inode()->stat(); }
};
Result<Told> told_at(Task& task, int dirfd, Text path, int flags) {
  const std::string text = !path && (flags & AT_EMPTY_PATH) != 0 ? std::string() : TRY(task.read_string(path));
  if (text.empty() && (flags & AT_EMPTY_PATH) != 0 && dirfd != AT_FDCWD) {
    FileRef file = TRY(task.fds->get(dirfd));
    return Told{file->path(), std::move(file)};
  }
  const unsigned walk_flags =
      ((flags & AT_SYMLINK_NOFOLLOW) != 0 ? kWalkNoFollow : 0) | ((flags & AT_EMPTY_PATH) != 0 ? kWalkEmptyPath : 0);
  return Told{TRY(walk(task, dirfd, text, walk_flags)), nullptr};
}
Result<struct statx> stat_at(Task& task, int dirfd, Text path, int flags) { return TRY(told_at(task, dirfd, path, flags)).stat(); }

// Which mount it is in, and whether it is that mount's root: what mountpoint(1) and systemd ask.
void add_mount(struct statx& stat, const Path& place, unsigned mask) {
  constexpr unsigned kUniqueId = 0x4000;  // STATX_MNT_ID_UNIQUE; numbers of mounts are never used again here
  if (!place || !place.mount) return;
  stat.stx_mnt_id = place.mount->id;
  stat.stx_mask |= (mask & kUniqueId) != 0 ? kUniqueId : STATX_MNT_ID;
  stat.stx_attributes_mask |= STATX_ATTR_MOUNT_ROOT;
  stat.stx_attributes &= ~static_cast<uint64_t>(STATX_ATTR_MOUNT_ROOT);
  if (place.dentry == place.mount->root) stat.stx_attributes |= STATX_ATTR_MOUNT_ROOT;
}

Result<long> stat_to(Task& task, int dirfd, Text path, UserPtr<struct stat> to, int flags) {
  TRY(task.write(to, to_stat(shown_to(task, TRY(stat_at(task, dirfd, path, flags))))));
  return 0L;
}

Result<long> sys_stat(Task& task, Text path, UserPtr<struct stat> to) { return stat_to(task, AT_FDCWD, path, to, 0); }
Result<long> sys_lstat(Task& task, Text path, UserPtr<struct stat> to) { return stat_to(task, AT_FDCWD, path, to, AT_SYMLINK_NOFOLLOW); }
Result<long> sys_fstat(Task& task, Fd fd, UserPtr<struct stat> to) {
  TRY(task.write(to, to_stat(shown_to(task, TRY(TRY(task.fds->get(number(fd)))->stat())))));
  return 0L;
}
Result<long> sys_newfstatat(Task& task, Fd dirfd, Text path, UserPtr<struct stat> to, int flags) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT)) != 0) return Errno(EINVAL);
  return stat_to(task, number(dirfd), path, to, flags);
}
Result<long> sys_statx(Task& task, Fd dirfd, Text path, int flags, unsigned mask, UserPtr<struct statx> to) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE)) != 0 || (mask & STATX__RESERVED) != 0)
    return Errno(EINVAL);
  const Told told = TRY(told_at(task, number(dirfd), path, flags));
  struct statx stat = shown_to(task, TRY(told.stat()));
  add_mount(stat, told.place, mask);
  TRY(task.write(to, stat));
  return 0L;
}

Result<long> access_at(Task& task, int dirfd, Text path, int mode, int flags) {
  if ((mode & ~7) != 0 || (flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Errno(EINVAL);
  const std::string text = TRY(task.read_string(path));
  const unsigned walk_flags =
      ((flags & AT_SYMLINK_NOFOLLOW) != 0 ? kWalkNoFollow : 0) | ((flags & AT_EMPTY_PATH) != 0 ? kWalkEmptyPath : 0);
  const Path place = TRY(walk(task, dirfd, text, walk_flags));
  if (mode == F_OK) return 0L;
  TRY(place.inode()->access(task, mode, (flags & AT_EACCESS) != 0));
  const mode_t type = place.inode()->type() & S_IFMT;
  if ((mode & W_OK) != 0 && place.mount->read_only() && (type == S_IFREG || type == S_IFDIR || type == S_IFLNK)) return Errno(EROFS);
  if ((mode & X_OK) != 0 && type == S_IFREG && (place.mount->flags & 8 /* MS_NOEXEC */) != 0) return Errno(EACCES);
  return 0L;
}
Result<long> sys_access(Task& task, Text path, int mode) { return access_at(task, AT_FDCWD, path, mode, 0); }
Result<long> sys_faccessat(Task& task, Fd dirfd, Text path, int mode) { return access_at(task, number(dirfd), path, mode, 0); }
Result<long> sys_faccessat2(Task& task, Fd dirfd, Text path, int mode, int flags) {
  return access_at(task, number(dirfd), path, mode, flags);
}

// The folder and the name of something that is to be made: it must not be there, and may be.
Result<LastName> place_for_new(Task& task, int dirfd, Text path, bool folder) {
  const LastName last = TRY(walk_to_last(task, dirfd, TRY(task.read_string(path))));
  if (last.name.empty() || last.name == "." || last.name == "..") return Errno(EEXIST);
  TRY(permission(task, *last.folder.inode(), X_OK));
  Result<Path> there = walk_child(task, last.folder, last.name);
  if (there) return Errno(EEXIST);
  if (there.error() != Errno(ENOENT)) return there.error();
  if (last.trailing_slash && !folder) return Errno(ENOENT);
  if (last.folder.mount->read_only()) return Errno(EROFS);
  if (last.folder.dentry->deleted()) return Errno(ENOENT);
  TRY(permission(task, *last.folder.inode(), W_OK | X_OK));
  return last;
}

Result<long> make_at(Task& task, int dirfd, Text path, mode_t mode, dev_t device) {
  const LastName last = TRY(place_for_new(task, dirfd, path, (mode & S_IFMT) == S_IFDIR));
  TRY(last.folder.inode()->make(task, last.name, mode & ~task.fs->umask.load(), device));
  notify_entry(last.folder, IN_CREATE | folder_bit(mode), last.name);
  return 0L;
}
Result<long> sys_mkdir(Task& task, Text path, unsigned mode) { return make_at(task, AT_FDCWD, path, S_IFDIR | (mode & 01777), 0); }
Result<long> sys_mkdirat(Task& task, Fd dirfd, Text path, unsigned mode) {
  return make_at(task, number(dirfd), path, S_IFDIR | (mode & 01777), 0);
}

Result<long> make_node(Task& task, int dirfd, Text path, unsigned mode, unsigned device) {
  if ((mode & S_IFMT) == 0) mode |= S_IFREG;
  switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
      break;
    case S_IFCHR:
      if (device == 0) break;  // a whiteout is nobody's device (mknod(2) since Linux 5.8)
      [[fallthrough]];
    case S_IFBLK:
      if (!task.creds->has(kCapMknod) || !device_allowed(task, mode, device, kDeviceMake)) return Errno(EPERM);
      break;
    case S_IFDIR:
      return Errno(EPERM);
    default:
      return Errno(EINVAL);
  }
  return make_at(task, dirfd, path, mode & (S_IFMT | 07777), device);
}
Result<long> sys_mknod(Task& task, Text path, unsigned mode, unsigned device) { return make_node(task, AT_FDCWD, path, mode, device); }
Result<long> sys_mknodat(Task& task, Fd dirfd, Text path, unsigned mode, unsigned device) {
  return make_node(task, number(dirfd), path, mode, device);
}

Result<long> symlink_at(Task& task, Text target, int dirfd, Text path) {
  const std::string text = TRY(task.read_string(target));
  if (text.empty()) return Errno(ENOENT);
  const LastName last = TRY(place_for_new(task, dirfd, path, false));
  TRY(last.folder.inode()->make_link(task, last.name, text));
  notify_entry(last.folder, IN_CREATE, last.name);
  return 0L;
}
Result<long> sys_symlink(Task& task, Text target, Text path) { return symlink_at(task, target, AT_FDCWD, path); }
Result<long> sys_symlinkat(Task& task, Text target, Fd dirfd, Text path) { return symlink_at(task, target, number(dirfd), path); }

Result<long> link_at(Task& task, int old_dirfd, Text old_path, int dirfd, Text path, int flags) {
  if ((flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) != 0) return Errno(EINVAL);
  const unsigned walk_flags = ((flags & AT_SYMLINK_FOLLOW) != 0 ? 0 : kWalkNoFollow) | ((flags & AT_EMPTY_PATH) != 0 ? kWalkEmptyPath : 0);
  const Path old = TRY(walk(task, old_dirfd, TRY(task.read_string(old_path)), walk_flags));
  const LastName last = TRY(place_for_new(task, dirfd, path, false));
  if (old.mount != last.folder.mount) return Errno(EXDEV);
  const InodeRef inode = old.inode();
  if ((inode->type() & S_IFMT) == S_IFDIR) return Errno(EPERM);
  TRY(may_link(task, *inode));
  TRY(last.folder.inode()->link(task, last.name, inode));
  notify_self(old, IN_ATTRIB);  // the number of its links
  notify_entry(last.folder, IN_CREATE, last.name);
  return 0L;
}
Result<long> sys_link(Task& task, Text old_path, Text path) { return link_at(task, AT_FDCWD, old_path, AT_FDCWD, path, 0); }
Result<long> sys_linkat(Task& task, Fd old_dirfd, Text old_path, Fd dirfd, Text path, int flags) {
  return link_at(task, number(old_dirfd), old_path, number(dirfd), path, flags);
}

Result<long> remove_at(Task& task, int dirfd, Text path, bool folder) {
  const LastName last = TRY(walk_to_last(task, dirfd, TRY(task.read_string(path))));
  if (last.name == ".") return Errno(folder ? EINVAL : EISDIR);
  if (last.name == "..") return Errno(folder ? ENOTEMPTY : EISDIR);
  if (last.name.empty()) return Errno(folder ? EBUSY : EISDIR);
  TRY(permission(task, *last.folder.inode(), X_OK));
  const Path there = TRY(walk_child(task, last.folder, last.name));
  const bool is_folder = (there.inode()->type() & S_IFMT) == S_IFDIR;
  if (folder && !is_folder) return Errno(ENOTDIR);
  if (!folder && is_folder) return Errno(EISDIR);
  if (!folder && last.trailing_slash) return Errno(ENOTDIR);
  if (last.folder.mount->read_only()) return Errno(EROFS);
  if (there.mount != last.folder.mount || there.dentry->mounted > 0) return Errno(EBUSY);
  TRY(permission(task, *last.folder.inode(), W_OK | X_OK));
  TRY(may_take_out(task, *last.folder.inode(), *there.inode()));
  if (folder)
    TRY(last.folder.inode()->remove_folder(task, last.name));
  else
    TRY(last.folder.inode()->unlink(task, last.name));
  last.folder.dentry->forget(last.name);
  if (!folder) notify_self(there, IN_ATTRIB);  // the number of its links
  notify_entry(last.folder, IN_DELETE | folder_bit(there.inode()->type()), last.name);
  return 0L;
}
Result<long> sys_unlink(Task& task, Text path) { return remove_at(task, AT_FDCWD, path, false); }
Result<long> sys_rmdir(Task& task, Text path) { return remove_at(task, AT_FDCWD, path, true); }
Result<long> sys_unlinkat(Task& task, Fd dirfd, Text path, int flags) {
  if ((flags & ~AT_REMOVEDIR) != 0) return Errno(EINVAL);
  return remove_at(task, number(dirfd), path, (flags & AT_REMOVEDIR) != 0);
}

void tell_of_move(const LastName& from, const LastName& to, const Path& moved) {
  const uint32_t cookie = next_move_cookie(), folder = folder_bit(moved.inode()->type());
  notify_entry(from.folder, IN_MOVED_FROM | folder, from.name, cookie);
  notify_entry(to.folder, IN_MOVED_TO | folder, to.name, cookie);
  notify_self(moved, IN_MOVE_SELF | folder);
}

void tell_of_rename(const LastName& from, const LastName& to, const Path& moved, const Path& target, bool exchange) {
  tell_of_move(from, to, moved);
  if (exchange)
    tell_of_move(to, from, target);
  else if (target && !S_ISDIR(target.inode()->type()))
    notify_self(target, IN_ATTRIB);
}

// A folder that gets another parent is changed itself: its "..".
Result<void> may_move(Task& task, const Path& from, const Path& moved, const Path& to) {
  TRY(may_take_out(task, *from.inode(), *moved.inode()));
  if (S_ISDIR(moved.inode()->type()) && from.dentry != to.dentry) TRY(permission(task, *moved.inode(), W_OK));
  return {};
}

Result<long> rename_at(Task& task, int old_dirfd, Text old_path, int new_dirfd, Text new_path, unsigned flags) {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0) return Errno(EINVAL);
  if ((flags & RENAME_EXCHANGE) != 0 && flags != RENAME_EXCHANGE) return Errno(EINVAL);
  const LastName from = TRY(walk_to_last(task, old_dirfd, TRY(task.read_string(old_path))));
  const LastName to = TRY(walk_to_last(task, new_dirfd, TRY(task.read_string(new_path))));
  for (const LastName* last : {&from, &to})
    if (last->name.empty() || last->name == "." || last->name == "..") return Errno(EBUSY);
  if (from.folder.mount != to.folder.mount) return Errno(EXDEV);
  if (from.folder.mount->read_only()) return Errno(EROFS);
  TRY(permission(task, *from.folder.inode(), W_OK | X_OK));
  TRY(permission(task, *to.folder.inode(), W_OK | X_OK));
  const Path source = TRY(walk_child(task, from.folder, from.name));
  const bool is_folder = (source.inode()->type() & S_IFMT) == S_IFDIR;
  if ((from.trailing_slash || to.trailing_slash) && !is_folder) return Errno(ENOTDIR);
  if (source.mount != from.folder.mount || source.dentry->mounted > 0) return Errno(EBUSY);
  if (is_folder && is_below(to.folder.dentry, source.dentry)) return Errno(EINVAL);
  TRY(may_move(task, from.folder, source, to.folder));
  Result<Path> target = walk_child(task, to.folder, to.name);
  if (target) {
    if ((flags & RENAME_NOREPLACE) != 0) return Errno(EEXIST);
    if (target->mount != to.folder.mount || target->dentry->mounted > 0) return Errno(EBUSY);
    const bool target_folder = (target->inode()->type() & S_IFMT) == S_IFDIR;
    if ((flags & RENAME_EXCHANGE) == 0 && is_folder != target_folder) return Errno(is_folder ? ENOTDIR : EISDIR);
    TRY(may_take_out(task, *to.folder.inode(), *target->inode()));
    if ((flags & RENAME_EXCHANGE) != 0) TRY(may_move(task, to.folder, *target, from.folder));
    if (target_folder && is_below(from.folder.dentry, target->dentry)) return Errno((flags & RENAME_EXCHANGE) != 0 ? EINVAL : ENOTEMPTY);
  } else if (target.error() != Errno(ENOENT)) {
    return target.error();
  }
  TRY(from.folder.inode()->rename(task, from.name, *to.folder.inode(), to.name, flags));
  if ((flags & RENAME_EXCHANGE) != 0) {
    // Both are looked up again at the next walk.
    from.folder.dentry->forget(from.name);
    to.folder.dentry->forget(to.name);
  } else if (!target || target->inode()->identity() != source.inode()->identity()) {
    from.folder.dentry->moved(from.name, to.folder.dentry, to.name);
  } else {
    return 0L;  // two names of one file: nothing was done
  }
  if (anybody_watches()) tell_of_rename(from, to, source, target ? *target : Path(), (flags & RENAME_EXCHANGE) != 0);
  return 0L;
}
Result<long> sys_rename(Task& task, Text from, Text to) { return rename_at(task, AT_FDCWD, from, AT_FDCWD, to, 0); }
Result<long> sys_renameat(Task& task, Fd old_dirfd, Text from, Fd new_dirfd, Text to) {
  return rename_at(task, number(old_dirfd), from, number(new_dirfd), to, 0);
}
Result<long> sys_renameat2(Task& task, Fd old_dirfd, Text from, Fd new_dirfd, Text to, unsigned flags) {
  return rename_at(task, number(old_dirfd), from, number(new_dirfd), to, flags);
}

Result<long> readlink_at(Task& task, int dirfd, Text path, uint64_t to, int size) {
  if (size <= 0) return Errno(EINVAL);
  const std::string text = TRY(task.read_string(path));
  const Path place = TRY(walk(task, dirfd, text, kWalkNoFollow | (dirfd != AT_FDCWD ? kWalkEmptyPath : 0)));
  if ((place.inode()->type() & S_IFMT) != S_IFLNK) return Errno(text.empty() ? ENOENT : EINVAL);
  const std::string target = TRY(place.inode()->read_link(task));
  const size_t length = std::min(target.size(), static_cast<size_t>(size));
  TRY(task.write_bytes(to, target.data(), length));
  return static_cast<long>(length);
}
Result<long> sys_readlink(Task& task, Text path, UserPtr<char> to, int size) {
  return readlink_at(task, AT_FDCWD, path, to.address(), size);
}
Result<long> sys_readlinkat(Task& task, Fd dirfd, Text path, UserPtr<char> to, int size) {
  return readlink_at(task, number(dirfd), path, to.address(), size);
}

// chmod, chown, utimes and truncate of kernel file systems obey the same rules, wherever the inode keeps its attributes; host folders leave
// it to the host.
Result<void> may_change(Task& task, Inode& inode, const Attributes& a) {
  if (inode.host_fd() >= 0) return {};
  const struct statx stat = TRY(inode.stat());
  const Credentials& creds = *task.creds;
  const bool owner = creds.fsuid == stat.stx_uid || creds.has_over(kCapFowner, stat.stx_uid, stat.stx_gid);
  if ((a.mask & STATX_MODE) != 0 && !owner) return Errno(EPERM);
  if ((a.mask & STATX_UID) != 0 && !creds.has_over(kCapChown, stat.stx_uid, stat.stx_gid) &&
      !(creds.fsuid == stat.stx_uid && a.uid == stat.stx_uid))
    return Errno(EPERM);
  if ((a.mask & STATX_GID) != 0 && !creds.has_over(kCapChown, stat.stx_uid, stat.stx_gid) &&
      !(creds.fsuid == stat.stx_uid && (creds.in_group(a.gid) || a.gid == stat.stx_gid)))
    return Errno(EPERM);
  if ((a.mask & STATX_SIZE) != 0) TRY(inode.access(task, W_OK, true));
  if ((a.mask & (STATX_ATIME | STATX_MTIME)) != 0 && !owner) {
    const bool now = a.atime.tv_nsec == UTIME_NOW && a.mtime.tv_nsec == UTIME_NOW;
    if (!now) return Errno(EPERM);
    TRY(inode.access(task, W_OK, true));
  }
  return {};
}

// As fsnotify_change() has it: one event with all that it was about.
void tell_of_change(const Path& place, uint32_t mask) {
  uint32_t events = (mask & (STATX_MODE | STATX_UID | STATX_GID)) != 0 ? IN_ATTRIB : 0;
  if ((mask & STATX_SIZE) != 0) events |= IN_MODIFY;
  if ((mask & STATX_ATIME) != 0 && (mask & STATX_MTIME) != 0)
    events |= IN_ATTRIB;
  else if ((mask & STATX_ATIME) != 0)
    events |= IN_ACCESS;
  else if ((mask & STATX_MTIME) != 0)
    events |= IN_MODIFY;
  if (events != 0) notify(place, events);
}

Result<long> change(Task& task, const Path& place, Attributes attributes) {
  if (place.mount && place.mount->read_only()) return Errno(EROFS);
  const InodeRef inode = place.inode();
  TRY(may_change(task, *inode, attributes));
  // A change of owner takes set-user-ID bits away (chown(2)); the host does so for its own.
  if (inode->host_fd() < 0 && (attributes.mask & (STATX_UID | STATX_GID)) != 0 && (inode->type() & S_IFMT) == S_IFREG) {
    const struct statx stat = TRY(inode->stat());
    attributes.mask |= STATX_MODE;
    attributes.mode = stat.stx_mode & 07777 & ~(S_ISUID | ((stat.stx_mode & S_IXGRP) != 0 ? S_ISGID : 0));
  }
  TRY(inode->set_attributes(task, attributes));
  tell_of_change(place, attributes.mask);
  return 0L;
}

Result<Path> place_of(Task& task, Fd fd) {
  const FileRef file = TRY(task.fds->get_usable(number(fd)));
  if (!file->path()) return Errno(EPERM);
  return file->path();
}

Attributes mode_change(unsigned mode) { return {.mask = STATX_MODE, .mode = mode & 07777}; }
Result<long> sys_chmod(Task& task, Text path, unsigned mode) {
  return change(task, TRY(walk(task, AT_FDCWD, TRY(task.read_string(path)))), mode_change(mode));
}
Result<long> sys_fchmod(Task& task, Fd fd, unsigned mode) { return change(task, TRY(place_of(task, fd)), mode_change(mode)); }
Result<long> sys_fchmodat(Task& task, Fd dirfd, Text path, unsigned mode) {
  return change(task, TRY(walk(task, number(dirfd), TRY(task.read_string(path)))), mode_change(mode));
}

Result<long> sys_fchmodat2(Task& task, Fd dirfd, Text path, unsigned mode, unsigned flags) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Errno(EINVAL);
  const unsigned how = ((flags & AT_SYMLINK_NOFOLLOW) != 0 ? kWalkNoFollow : 0) | ((flags & AT_EMPTY_PATH) != 0 ? kWalkEmptyPath : 0);
  const Path place = TRY(walk(task, number(dirfd), TRY(task.read_string(path)), how));
  if (S_ISLNK(place.inode()->type())) return Errno(EOPNOTSUPP);
  return change(task, place, mode_change(mode));
}

// EINVAL: the task's user namespace has no such user or group.
Result<Attributes> owner_change(const Task& task, unsigned uid, unsigned gid) {
  const UserNamespace& user = *task.creds->user;
  const std::optional<uint32_t> owner = uid != ~0U ? user.to_kernel(UserNamespace::Ids::Users, uid) : uid;
  const std::optional<uint32_t> group = gid != ~0U ? user.to_kernel(UserNamespace::Ids::Groups, gid) : gid;
  if (!owner || !group) return Errno(EINVAL);
  uid = *owner;
  gid = *group;
  return Attributes{.mask = (uid != ~0U ? STATX_UID : 0U) | (gid != ~0U ? STATX_GID : 0U), .uid = uid, .gid = gid};
}
Result<long> sys_chown(Task& task, Text path, unsigned uid, unsigned gid) {
  return change(task, TRY(walk(task, AT_FDCWD, TRY(task.read_string(path)))), TRY(owner_change(task, uid, gid)));
}
Result<long> sys_lchown(Task& task, Text path, unsigned uid, unsigned gid) {
  return change(task, TRY(walk(task, AT_FDCWD, TRY(task.read_string(path)), kWalkNoFollow)), TRY(owner_change(task, uid, gid)));
}
Result<long> sys_fchown(Task& task, Fd fd, unsigned uid, unsigned gid) {
  const FileRef file = TRY(task.fds->get_usable(number(fd)));
  if (!file->path()) return 0L;  // pipes and their like: nobody sees it
  return change(task, file->path(), TRY(owner_change(task, uid, gid)));
}
Result<long> sys_fchownat(Task& task, Fd dirfd, Text path, unsigned uid, unsigned gid, int flags) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Errno(EINVAL);
  const unsigned walk_flags =
      ((flags & AT_SYMLINK_NOFOLLOW) != 0 ? kWalkNoFollow : 0) | ((flags & AT_EMPTY_PATH) != 0 ? kWalkEmptyPath : 0);
  return change(task, TRY(walk(task, number(dirfd), TRY(task.read_string(path)), walk_flags)), TRY(owner_change(task, uid, gid)));
}

Result<long> set_times(Task& task, const Path& place, const timespec (&times)[2]) {
  Attributes attributes;
  for (const timespec& time : times)
    if (time.tv_nsec != UTIME_NOW && time.tv_nsec != UTIME_OMIT && (time.tv_nsec < 0 || time.tv_nsec > 999'999'999)) return Errno(EINVAL);
  if (times[0].tv_nsec != UTIME_OMIT) attributes.mask |= STATX_ATIME;
  if (times[1].tv_nsec != UTIME_OMIT) attributes.mask |= STATX_MTIME;
  attributes.atime = times[0];
  attributes.mtime = times[1];
  if (attributes.mask == 0) return 0L;
  return change(task, place, attributes);
}

constexpr timespec kNow = {0, UTIME_NOW};

Result<long> sys_utimensat(Task& task, Fd dirfd, Text path, UserPtr<const timespec> from, int flags) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Errno(EINVAL);
  timespec times[2] = {kNow, kNow};
  if (from) TRY(task.read_bytes(from.address(), times, sizeof times));
  if (!path) return set_times(task, TRY(place_of(task, dirfd)), times);
  const unsigned walk_flags =
      ((flags & AT_SYMLINK_NOFOLLOW) != 0 ? kWalkNoFollow : 0) | ((flags & AT_EMPTY_PATH) != 0 ? kWalkEmptyPath : 0);
  return set_times(task, TRY(walk(task, number(dirfd), TRY(task.read_string(path)), walk_flags)), times);
}

Result<long> set_old_times(Task& task, int dirfd, Text path, UserPtr<const timeval> from) {
  timespec times[2] = {kNow, kNow};
  if (from) {
    timeval values[2];
    TRY(task.read_bytes(from.address(), values, sizeof values));
    for (int i = 0; i < 2; ++i) {
      if (values[i].tv_usec < 0 || values[i].tv_usec > 999'999) return Errno(EINVAL);
      times[i] = {values[i].tv_sec, values[i].tv_usec * 1000};
    }
  }
  return set_times(task, TRY(walk(task, dirfd, TRY(task.read_string(path)))), times);
}
Result<long> sys_utimes(Task& task, Text path, UserPtr<const timeval> from) { return set_old_times(task, AT_FDCWD, path, from); }
Result<long> sys_futimesat(Task& task, Fd dirfd, Text path, UserPtr<const timeval> from) {
  return set_old_times(task, number(dirfd), path, from);
}
Result<long> sys_utime(Task& task, Text path, UserPtr<const utimbuf> from) {
  timespec times[2] = {kNow, kNow};
  if (from) {
    const utimbuf value = TRY(task.read(from));
    times[0] = {value.actime, 0};
    times[1] = {value.modtime, 0};
  }
  return set_times(task, TRY(walk(task, AT_FDCWD, TRY(task.read_string(path)))), times);
}

Result<long> sys_truncate(Task& task, Text path, long size) {
  if (size < 0) return Errno(EINVAL);
  const Path place = TRY(walk(task, AT_FDCWD, TRY(task.read_string(path))));
  const mode_t type = place.inode()->type() & S_IFMT;
  if (type == S_IFDIR) return Errno(EISDIR);
  if (type != S_IFREG) return Errno(EINVAL);
  TRY(check_new_size(task, static_cast<off_t>(TRY(place.inode()->stat()).stx_size), size));
  return change(task, place, {.mask = STATX_SIZE, .size = size});
}

Result<long> enter(Task& task, const Path& place) {
  if ((place.inode()->type() & S_IFMT) != S_IFDIR) return Errno(ENOTDIR);
  TRY(place.inode()->access(task, X_OK, true));
  task.fs->set_cwd(place);
  return 0L;
}
Result<long> sys_chdir(Task& task, Text path) { return enter(task, TRY(walk(task, AT_FDCWD, TRY(task.read_string(path)), kWalkFolder))); }
Result<long> sys_fchdir(Task& task, Fd fd) {
  const FileRef file = TRY(task.fds->get(number(fd)));
  if (!file->path()) return Errno(ENOTDIR);
  return enter(task, file->path());
}

Result<long> sys_getcwd(Task& task, UserPtr<char> to, unsigned long size) {
  const Path cwd = task.fs->cwd();
  if (cwd.dentry->deleted()) return Errno(ENOENT);
  const std::string text = path_text(task, cwd);
  if (text.size() + 1 > PATH_MAX) return Errno(ENAMETOOLONG);
  if (text.size() + 1 > size) return Errno(ERANGE);
  TRY(task.write_bytes(to.address(), text.c_str(), text.size() + 1));
  return static_cast<long>(text.size() + 1);
}

}  // namespace

std::span<const SyscallRow> path_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(stat, 4, Full, ""),
      SYSCALL(fstat, 5, Full, ""),
      SYSCALL(lstat, 6, Full, ""),
      SYSCALL(access, 21, Full, ""),
      SYSCALL(truncate, 76, Full, ""),
      SYSCALL(getcwd, 79, Full, ""),
      SYSCALL(chdir, 80, Full, ""),
      SYSCALL(fchdir, 81, Full, ""),
      SYSCALL(rename, 82, Full, ""),
      SYSCALL(mkdir, 83, Full, ""),
      SYSCALL(rmdir, 84, Full, ""),
      SYSCALL(link, 86, Full, ""),
      SYSCALL(unlink, 87, Full, ""),
      SYSCALL(symlink, 88, Full, ""),
      SYSCALL(readlink, 89, Full, ""),
      SYSCALL(chmod, 90, Full, ""),
      SYSCALL(fchmod, 91, Full, ""),
      SYSCALL(chown, 92, Full, ""),
      SYSCALL(fchown, 93, Full, ""),
      SYSCALL(lchown, 94, Full, ""),
      SYSCALL(utime, 132, Full, ""),
      SYSCALL(mknod, 133, Partial, "a device in a folder of the host is a file there, with an attribute"),
      SYSCALL(utimes, 235, Full, ""),
      SYSCALL(mkdirat, 258, Full, ""),
      SYSCALL(mknodat, 259, Partial, "a device in a folder of the host is a file there, with an attribute"),
      SYSCALL(fchownat, 260, Full, ""),
      SYSCALL(futimesat, 261, Full, ""),
      SYSCALL(newfstatat, 262, Full, ""),
      SYSCALL(unlinkat, 263, Full, ""),
      SYSCALL(renameat, 264, Full, ""),
      SYSCALL(linkat, 265, Full, ""),
      SYSCALL(symlinkat, 266, Full, ""),
      SYSCALL(readlinkat, 267, Full, ""),
      SYSCALL(fchmodat, 268, Full, ""),
      SYSCALL(fchmodat2, 452, Full, ""),
      SYSCALL(faccessat, 269, Full, ""),
      SYSCALL(utimensat, 280, Full, ""),
      SYSCALL(renameat2, 316, Full, ""),
      SYSCALL(statx, 332, Full, ""),
      SYSCALL(faccessat2, 439, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
