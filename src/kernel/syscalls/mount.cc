// Mounts, roots, and what a file system says of itself.
#include <sys/mount.h>
#include <sys/statfs.h>

#include <bit>

#include "kernel/fs/common/node.h"
#include "kernel/fs/host/host_fs.h"
#include "kernel/fs/registry.h"
#include "kernel/fs/tmpfs/tmpfs.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/mounting.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

constexpr unsigned long kMagicMask = 0xffff0000, kMagic = 0xc0ed0000;
// A text that may be missing.
Result<std::string> optional_text(Task& task, UserPtr<const char> from) {
  if (!from) return std::string();
  return task.read_string(from);
}

Result<long> remount(Task& task, const Path& target, unsigned long flags, const std::string& data) {
  if (!is_mount_root(target)) return Errno(EINVAL);
  if ((flags & MS_BIND) == 0 && !data.empty()) {
    std::string rest;
    flags |= split_mount_options(data, &rest) & kMountFlags;
    if (const auto tmpfs = std::dynamic_pointer_cast<Tmpfs>(target.mount->fs)) TRY(tmpfs->remount(TRY(Tmpfs::parse(rest))));
  }
  TRY(task.spaces->mounts->set_flags(target.mount, flags & kMountFlags));
  return 0L;
}

// A copy of the mount at `source`, seen from there on; with MS_REC, of what is mounted below it, too.
Result<long> bind(Task& task, UserPtr<const char> source_text, const Path& target, bool recursive) {
  const std::string text = TRY(task.read_string(source_text));
  const Path source = TRY(walk(task, AT_FDCWD, text));
  if (is_folder(source) != is_folder(target)) return Errno(ENOTDIR);
  TRY(task.spaces->mounts->bind(source, target, recursive));
  return 0L;
}

Result<long> set_propagation(Task& task, const Path& target, unsigned long flags) {
  const unsigned long type = flags & kPropagation;
  if (!std::has_single_bit(type) || (flags & ~(kPropagation | MS_REC | MS_SILENT)) != 0) return Errno(EINVAL);
  if (!is_mount_root(target)) return Errno(EINVAL);
  TRY(task.spaces->mounts->set_propagation(target.mount, type, (flags & MS_REC) != 0));
  return 0L;
}

Result<long> move(Task& task, UserPtr<const char> source_text, const Path& target) {
  const std::string text = TRY(task.read_string(source_text));
  const Path source = TRY(walk(task, AT_FDCWD, text));
  if (!is_mount_root(source) || !source.mount->point()) return Errno(EINVAL);
  if (is_folder(source) != is_folder(target)) return Errno(ENOTDIR);
  TRY(task.spaces->mounts->move(source.mount, target));
  return 0L;
}

Result<long> sys_mount(Task& task, UserPtr<const char> source, UserPtr<const char> target_text, UserPtr<const char> type_text,
                       unsigned long flags, UserPtr<const char> data_text) {
  if ((flags & kMagicMask) == kMagic) flags &= ~kMagicMask;
  const std::string path = TRY(task.read_string(target_text));
  TRY(may_mount(task));
  const Path target = TRY(walk(task, AT_FDCWD, path));
  if ((flags & MS_REMOUNT) != 0) return remount(task, target, flags, TRY(optional_text(task, data_text)));
  if ((flags & MS_BIND) != 0) return bind(task, source, target, (flags & MS_REC) != 0);
  if ((flags & kPropagation) != 0) return set_propagation(task, target, flags);
  if ((flags & MS_MOVE) != 0) return move(task, source, target);
  const std::string type = TRY(task.read_string(type_text));
  if (!is_folder(target)) return Errno(ENOTDIR);
  std::string rest;
  const unsigned long more = split_mount_options(TRY(optional_text(task, data_text)), &rest);
  (void)TRY(mount_file_system(task, target, type, TRY(optional_text(task, source)), (flags | more) & kMountFlags, rest));
  return 0L;
}

Result<long> sys_umount2(Task& task, UserPtr<const char> target_text, int flags) {
  if ((flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)) != 0 || (flags & MNT_EXPIRE) != 0) return Errno(EINVAL);
  const std::string path = TRY(task.read_string(target_text));
  TRY(may_mount(task));
  Path target = TRY(walk(task, AT_FDCWD, path, (flags & UMOUNT_NOFOLLOW) != 0 ? kWalkNoFollow : 0));
  // What lies on the place that was found, too: "." after pivot_root(".", ".").
  while (MountRef above = target.dentry->mounted > 0 ? MountTable::at(target) : nullptr) target = {above, above->root};
  if (!is_mount_root(target)) return Errno(EINVAL);
  if (!target.mount->point()) return Errno(EBUSY);  // the root of everything
  TRY(task.spaces->mounts->remove(target.mount, (flags & MNT_DETACH) != 0));
  return 0L;
}

Result<long> sys_pivot_root(Task& task, UserPtr<const char> new_root_text, UserPtr<const char> put_old_text) {
  const std::string new_root_path = TRY(task.read_string(new_root_text));
  const std::string put_old_path = TRY(task.read_string(put_old_text));
  TRY(may_mount(task));
  const Path new_root = TRY(walk(task, AT_FDCWD, new_root_path, kWalkFolder));
  const Path put_old = TRY(walk(task, AT_FDCWD, put_old_path, kWalkFolder));
  const Path old_root = task.fs->root();
  if (new_root.mount == old_root.mount || put_old.mount == old_root.mount) return Errno(EBUSY);
  if (!is_mount_root(new_root) || !is_mount_root(old_root)) return Errno(EINVAL);
  TRY(task.spaces->mounts->pivot(new_root, put_old, old_root.mount));
  std::lock_guard guard(task.kernel.tasks);
  const PidNamespace* all = task.group->pids.get();
  while (all->parent) all = all->parent.get();
  for (const auto& [tid, each] : all->tasks) {
    if (!each->fs || !each->spaces || each->spaces->mounts != task.spaces->mounts) continue;
    if (each->fs->root() == old_root) each->fs->set_root(new_root);
    if (each->fs->cwd() == old_root) each->fs->set_cwd(new_root);
  }
  if (task.group->container != nullptr && task.group->container->root == old_root) task.group->container->root = new_root;
  return 0L;
}

Result<long> sys_chroot(Task& task, UserPtr<const char> path_text) {
  const std::string path = TRY(task.read_string(path_text));
  const Path root = TRY(walk(task, AT_FDCWD, path, kWalkFolder));
  TRY(permission(task, *root.inode(), X_OK));
  if (!task.creds->has_own(kCapSysChroot)) return Errno(EPERM);
  task.fs->set_root(root);
  return 0L;
}

// Below a volume may lie what the node has mounted there later, in one mount of ours: the host knows.
Result<struct statfs> file_system_at(const Path& path) {
  const InodeRef inode = path.inode();
  if (inode->host_fd() < 0 || dynamic_cast<const HostFileSystem*>(path.mount->fs.get()) == nullptr) return path.mount->fs->stat_fs();
  struct statfs result {};
  TRY(host_result(fstatfs(inode->host_fd(), &result)));
  return result;
}

Result<long> give_statfs(Task& task, const Path& path, uint64_t to) {
  constexpr long kValid = 0x20;
  static constexpr std::pair<unsigned long, long> kFlags[] = {{MS_RDONLY, 1},        {MS_NOSUID, 2},       {MS_NODEV, 4},
                                                              {MS_NOEXEC, 8},        {MS_SYNCHRONOUS, 16}, {MS_NOATIME, 1024},
                                                              {MS_NODIRATIME, 2048}, {MS_RELATIME, 4096}};
  struct statfs result = TRY(file_system_at(path));
  result.f_flags = kValid;
  for (const auto& [flag, shown] : kFlags)
    if ((path.mount->flags & flag) != 0) result.f_flags |= shown;
  TRY(task.write(UserPtr<struct statfs>(to), result));
  return 0L;
}

Result<long> sys_statfs(Task& task, UserPtr<const char> path_text, UserPtr<struct statfs> to) {
  const std::string path = TRY(task.read_string(path_text));
  return give_statfs(task, TRY(walk(task, AT_FDCWD, path)), to.address());
}

Result<long> sys_fstatfs(Task& task, Fd fd, UserPtr<struct statfs> to) {
  const FileRef file = TRY(task.fds->get(number(fd)));
  if (file->path()) return give_statfs(task, file->path(), to.address());
  const Result<struct statx> stat = file->stat();
  const mode_t type = stat ? stat->stx_mode & S_IFMT : 0;
  TRY(task.write(to, plain_statfs(type == S_IFIFO ? 0x50495045 : type == S_IFSOCK ? 0x534f434b : 0x09041934)));
  return 0L;
}

}  // namespace

std::span<const SyscallRow> mount_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(statfs, 137, Full, ""),
      SYSCALL(fstatfs, 138, Full, ""),
      SYSCALL(pivot_root, 155, Full, ""),
      SYSCALL(chroot, 161, Full, ""),
      SYSCALL(mount, 165, Partial,
              "no block devices; on folders of the host an overlay reads and writes user.overlay.* only, not the marks trusted.overlay.* "
              "of others"),
      SYSCALL(umount2, 166, Partial, "no MNT_EXPIRE"),
  };
  return rows;
}

}  // namespace caisson::kernel
