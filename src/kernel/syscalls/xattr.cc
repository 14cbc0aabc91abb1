// Extended attributes (xattr(7)).
#include <linux/limits.h>
#include <sys/xattr.h>

#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/vfs/notify.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

constexpr size_t kMostValue = 65536;

Result<Path> by_path(Task& task, UserPtr<const char> path_text, bool follow, bool write) {
  const std::string text = TRY(task.read_string(path_text));
  Path path = TRY(walk(task, AT_FDCWD, text, follow ? 0 : kWalkNoFollow));
  if (write && path.mount->read_only()) return Errno(EROFS);
  return path;
}

Result<Path> by_fd(Task& task, Fd fd, bool write) {
  const FileRef file = TRY(task.fds->get_usable(number(fd)));
  if (!file->path()) return Errno(EOPNOTSUPP);
  if (write && file->path().mount->read_only()) return Errno(EROFS);
  return file->path();
}

Result<std::string> read_name(Task& task, UserPtr<const char> name_text) {
  Result<std::string> name = task.read_string(name_text, XATTR_NAME_MAX + 1);
  if (!name && name.error() == Errno(ENAMETOOLONG)) return Errno(ERANGE);
  if (name && name->empty()) return Errno(ERANGE);
  return name;
}

// user.* is data like the file's own, and only of what has data (xattr(7)).
Result<void> may(Task& task, Inode& inode, const std::string& name, int mode) {
  if (!name.starts_with("user.")) return {};
  const mode_t type = inode.type() & S_IFMT;
  if (type != S_IFREG && type != S_IFDIR) return mode == W_OK ? Errno(EPERM) : Errno(ENODATA);
  return permission(task, inode, mode);
}

Result<long> set(Task& task, const Path& path, UserPtr<const char> name_text, uint64_t value, uint64_t size, int flags) {
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0) return Errno(EINVAL);
  const std::string name = TRY(read_name(task, name_text));
  if (size > kMostValue) return Errno(E2BIG);
  std::string content(size, '\0');
  TRY(task.read_bytes(value, content.data(), size));
  TRY(may(task, *path.inode(), name, W_OK));
  TRY(path.inode()->set_xattr(task, name.c_str(), content, flags));
  notify(path, IN_ATTRIB);
  return 0L;
}

// Gives `content`, or only its size where there is no room asked for.
Result<long> give(Task& task, const std::string& content, uint64_t to, uint64_t room) {
  if (room == 0) return static_cast<long>(content.size());
  if (room < content.size()) return Errno(ERANGE);
  TRY(task.write_bytes(to, content.data(), content.size()));
  return static_cast<long>(content.size());
}

Result<long> get(Task& task, const Path& path, UserPtr<const char> name_text, uint64_t to, uint64_t room) {
  const std::string name = TRY(read_name(task, name_text));
  TRY(may(task, *path.inode(), name, R_OK));
  return give(task, TRY(path.inode()->get_xattr(task, name.c_str())), to, room);
}

Result<long> list(Task& task, const Path& path, uint64_t to, uint64_t room) {
  return give(task, TRY(path.inode()->list_xattr(task)), to, room);
}

Result<long> remove(Task& task, const Path& path, UserPtr<const char> name_text) {
  const std::string name = TRY(read_name(task, name_text));
  TRY(may(task, *path.inode(), name, W_OK));
  TRY(path.inode()->remove_xattr(task, name.c_str()));
  notify(path, IN_ATTRIB);
  return 0L;
}

using Text = UserPtr<const char>;

Result<long> sys_setxattr(Task& task, Text path, Text name, UserPtr<const void> value, size_t size, int flags) {
  return set(task, TRY(by_path(task, path, true, true)), name, value.address(), size, flags);
}
Result<long> sys_lsetxattr(Task& task, Text path, Text name, UserPtr<const void> value, size_t size, int flags) {
  return set(task, TRY(by_path(task, path, false, true)), name, value.address(), size, flags);
}
Result<long> sys_fsetxattr(Task& task, Fd fd, Text name, UserPtr<const void> value, size_t size, int flags) {
  return set(task, TRY(by_fd(task, fd, true)), name, value.address(), size, flags);
}
Result<long> sys_getxattr(Task& task, Text path, Text name, UserPtr<void> to, size_t room) {
  return get(task, TRY(by_path(task, path, true, false)), name, to.address(), room);
}
Result<long> sys_lgetxattr(Task& task, Text path, Text name, UserPtr<void> to, size_t room) {
  return get(task, TRY(by_path(task, path, false, false)), name, to.address(), room);
}
Result<long> sys_fgetxattr(Task& task, Fd fd, Text name, UserPtr<void> to, size_t room) {
  return get(task, TRY(by_fd(task, fd, false)), name, to.address(), room);
}
Result<long> sys_listxattr(Task& task, Text path, UserPtr<void> to, size_t room) {
  return list(task, TRY(by_path(task, path, true, false)), to.address(), room);
}
Result<long> sys_llistxattr(Task& task, Text path, UserPtr<void> to, size_t room) {
  return list(task, TRY(by_path(task, path, false, false)), to.address(), room);
}
Result<long> sys_flistxattr(Task& task, Fd fd, UserPtr<void> to, size_t room) {
  return list(task, TRY(by_fd(task, fd, false)), to.address(), room);
}
Result<long> sys_removexattr(Task& task, Text path, Text name) { return remove(task, TRY(by_path(task, path, true, true)), name); }
Result<long> sys_lremovexattr(Task& task, Text path, Text name) { return remove(task, TRY(by_path(task, path, false, true)), name); }
Result<long> sys_fremovexattr(Task& task, Fd fd, Text name) { return remove(task, TRY(by_fd(task, fd, true)), name); }

}  // namespace

std::span<const SyscallRow> xattr_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(setxattr, 188, Full, ""),    SYSCALL(lsetxattr, 189, Full, ""),    SYSCALL(fsetxattr, 190, Full, ""),
      SYSCALL(getxattr, 191, Full, ""),    SYSCALL(lgetxattr, 192, Full, ""),    SYSCALL(fgetxattr, 193, Full, ""),
      SYSCALL(listxattr, 194, Full, ""),   SYSCALL(llistxattr, 195, Full, ""),   SYSCALL(flistxattr, 196, Full, ""),
      SYSCALL(removexattr, 197, Full, ""), SYSCALL(lremovexattr, 198, Full, ""), SYSCALL(fremovexattr, 199, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
