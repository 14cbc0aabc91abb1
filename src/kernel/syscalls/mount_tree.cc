// Mounts by descriptor: open_tree, move_mount, mount_setattr. A tree that is attached nowhere is a mount table of its own, which lives as
// long as the descriptor.
#include "kernel/syscalls/mount_tree.h"

#include <linux/mount.h>

#include <bit>

#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/mounting.h"
#include "kernel/task/kernel.h"
#include "kernel/vfs/mount_tree.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kAttributes = 1 | 2 | 4 | 8 | 0x70 | 0x80;  // MOUNT_ATTR_RDONLY, NOSUID, NODEV, NOEXEC, _ATIME, NODIRATIME
constexpr uint64_t kAtime = 0x70, kNoAtime = 0x10, kStrictAtime = 0x20;

// A detached tree: what an O_PATH descriptor of its root is, and its end.
class TreeFile : public File {
 public:
  TreeFile(Path root, std::shared_ptr<MountTable> table) : File(std::move(root), O_PATH), table_(std::move(table)) {}
  const std::shared_ptr<MountTable>& table() const { return table_; }
  Result<struct statx> stat() override { return path().inode()->stat(); }

 private:
  const std::shared_ptr<MountTable> table_;
};

unsigned walk_flags(bool no_follow, bool empty_path) { return (no_follow ? kWalkNoFollow : 0) | (empty_path ? kWalkEmptyPath : 0); }

// The table that a mount is in: the task's, or that of the tree that `fd` is a descriptor of. EINVAL.
Result<std::shared_ptr<MountTable>> table_of(Task& task, const MountRef& mount, Fd fd) {
  const MountTable* const found = mount->table();
  if (found == task.spaces->mounts.get()) return task.spaces->mounts;
  if (number(fd) == AT_FDCWD) return Errno(EINVAL);
  const auto tree = std::dynamic_pointer_cast<TreeFile>(TRY(task.fds->get(number(fd))));
  if (!tree || tree->table().get() != found) return Errno(EINVAL);
  return tree->table();
}

Result<long> sys_open_tree(Task& task, Fd dirfd, UserPtr<const char> path_text, unsigned flags) {
  constexpr unsigned kRecursive = AT_RECURSIVE;
  if ((flags & ~(AT_EMPTY_PATH | AT_NO_AUTOMOUNT | kRecursive | AT_SYMLINK_NOFOLLOW | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)) != 0)
    return Errno(EINVAL);
  if ((flags & (kRecursive | OPEN_TREE_CLONE)) == kRecursive) return Errno(EINVAL);
  if ((flags & OPEN_TREE_CLONE) != 0) TRY(may_mount(task));
  const std::string text = TRY(task.read_string(path_text));
  const bool close_on_exec = (flags & OPEN_TREE_CLOEXEC) != 0;
  const Path place = TRY(walk(task, number(dirfd), text, walk_flags((flags & AT_SYMLINK_NOFOLLOW) != 0, (flags & AT_EMPTY_PATH) != 0)));
  if ((flags & OPEN_TREE_CLONE) == 0) return install(task, TRY(open_place(task, place, O_PATH)), close_on_exec);
  const std::shared_ptr<MountTable>& mounts = task.spaces->mounts;
  return install(task, TRY(make_tree_file(TRY(MountTree::clone_detached(*mounts, place, (flags & kRecursive) != 0, mounts->owner)))),
                 close_on_exec);
}

Result<long> sys_move_mount(Task& task, Fd from_fd, UserPtr<const char> from_text, Fd to_fd, UserPtr<const char> to_text, unsigned flags) {
  constexpr unsigned kKnown = MOVE_MOUNT_F_SYMLINKS | MOVE_MOUNT_F_AUTOMOUNTS | MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS |
                              MOVE_MOUNT_T_AUTOMOUNTS | MOVE_MOUNT_T_EMPTY_PATH;
  TRY(may_mount(task));
  if ((flags & ~kKnown) != 0) return Errno(EINVAL);
  const std::string from_path = TRY(task.read_string(from_text)), to_path = TRY(task.read_string(to_text));
  const Path from =
      TRY(walk(task, number(from_fd), from_path, walk_flags((flags & MOVE_MOUNT_F_SYMLINKS) == 0, (flags & MOVE_MOUNT_F_EMPTY_PATH) != 0)));
  const Path to =
      TRY(walk(task, number(to_fd), to_path, walk_flags((flags & MOVE_MOUNT_T_SYMLINKS) == 0, (flags & MOVE_MOUNT_T_EMPTY_PATH) != 0)));
  if (!is_mount_root(from)) return Errno(EINVAL);
  if (is_folder(from) != is_folder(to)) return Errno(is_folder(from) ? ENOTDIR : EINVAL);
  const std::shared_ptr<MountTable> table = TRY(table_of(task, from.mount, from_fd));
  if (table == task.spaces->mounts)
    TRY(table->move(from.mount, to));
  else if (from.mount->point())
    return Errno(EINVAL);  // a part of a detached tree
  else
    TRY(MountTree::attach_detached(*table, *task.spaces->mounts, to));
  return 0L;
}

struct Attributes {
  uint64_t set, clear, propagation, user_namespace;
};

// Newer and longer ones are taken where what is unknown is 0, as everywhere.
Result<Attributes> read_attributes(Task& task, UserPtr<const Attributes> from, uint64_t size) {
  if (size > 4096) return Errno(E2BIG);
  if (size < sizeof(Attributes)) return Errno(EINVAL);
  std::vector<char> rest(size - sizeof(Attributes));
  const Attributes wanted = TRY(task.read(from));
  if (!rest.empty()) TRY(task.read_bytes(from.address() + sizeof(Attributes), rest.data(), rest.size()));
  if (std::any_of(rest.begin(), rest.end(), [](char byte) { return byte != 0; })) return Errno(E2BIG);
  return wanted;
}

Result<void> check_attributes(const Attributes& wanted) {
  if (((wanted.set | wanted.clear) & ~kAttributes) != 0) return Errno(EINVAL);
  if (wanted.propagation != 0 && (!std::has_single_bit(wanted.propagation) || (wanted.propagation & ~kPropagation) != 0))
    return Errno(EINVAL);
  // Of the ways to note access there is always one: all of them are cleared, and one is set.
  const uint64_t cleared = wanted.clear & kAtime, set = wanted.set & kAtime;
  if (cleared != 0 && cleared != kAtime) return Errno(EINVAL);
  if (set != 0 && (cleared == 0 || (set != kNoAtime && set != kStrictAtime))) return Errno(EINVAL);
  return {};
}

Result<long> sys_mount_setattr(Task& task, Fd dirfd, UserPtr<const char> path_text, unsigned flags, UserPtr<const Attributes> from,
                               uint64_t size) {
  constexpr unsigned kRecursive = AT_RECURSIVE;
  if ((flags & ~(AT_EMPTY_PATH | kRecursive | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)) != 0) return Errno(EINVAL);
  const Attributes wanted = TRY(read_attributes(task, from, size));
  TRY(may_mount(task));
  if (wanted.set == 0 && wanted.clear == 0 && wanted.propagation == 0) return 0L;
  TRY(check_attributes(wanted));
  const std::string text = TRY(task.read_string(path_text));
  const Path place = TRY(walk(task, number(dirfd), text, walk_flags((flags & AT_SYMLINK_NOFOLLOW) != 0, (flags & AT_EMPTY_PATH) != 0)));
  if (!is_mount_root(place)) return Errno(EINVAL);
  const std::shared_ptr<MountTable> table = TRY(table_of(task, place.mount, dirfd));
  const std::vector<MountRef> mounts = (flags & kRecursive) != 0 ? table->below(place.mount) : std::vector<MountRef>{place.mount};
  const unsigned long set = mount_flags_of(wanted.set),
                      clear = mount_flags_of(wanted.clear & ~kAtime) | ((wanted.clear & kAtime) != 0 ? MS_NOATIME | MS_RELATIME : 0);
  const unsigned long plain = (wanted.clear & kAtime) != 0 ? set : set & ~static_cast<unsigned long>(MS_RELATIME);
  const auto after = [&](const Mount& mount) { return (mount.flags & ~clear) | plain; };
  // All or none.
  for (const MountRef& each : mounts)
    if ((each->locked_flags & ~after(*each)) != 0) return Errno(EPERM);
  for (const MountRef& each : mounts) TRY(table->set_flags(each, after(*each)));
  if (wanted.propagation != 0)
    TRY(table->set_propagation(place.mount, static_cast<unsigned long>(wanted.propagation), (flags & kRecursive) != 0));
  return 0L;
}

}  // namespace

unsigned long mount_flags_of(uint64_t attributes) {
  static constexpr std::pair<uint64_t, unsigned long> kSame[] = {
      {1, MS_RDONLY}, {2, MS_NOSUID}, {4, MS_NODEV}, {8, MS_NOEXEC}, {0x80, MS_NODIRATIME}};
  unsigned long flags = 0;
  for (const auto& [attribute, flag] : kSame)
    if ((attributes & attribute) != 0) flags |= flag;
  if ((attributes & kAtime) == 0) flags |= MS_RELATIME;
  if ((attributes & kAtime) == kNoAtime) flags |= MS_NOATIME;
  return flags;
}

bool are_mount_attributes(uint64_t attributes) {
  const uint64_t atime = attributes & kAtime;
  return (attributes & ~kAttributes) == 0 && (atime == 0 || atime == kNoAtime || atime == kStrictAtime);
}

Result<FileRef> make_tree_file(std::shared_ptr<MountTable> table) {
  const std::vector<MountRef> mounts = table->all();
  if (mounts.empty()) return Errno(EINVAL);
  Path root{mounts[0], mounts[0]->root};
  return FileRef(std::make_shared<TreeFile>(std::move(root), std::move(table)));
}

std::span<const SyscallRow> mount_tree_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(open_tree, 428, Full, ""),
      SYSCALL(move_mount, 429, Partial, "no MOVE_MOUNT_SET_GROUP, no MOVE_MOUNT_BENEATH"),
      SYSCALL(mount_setattr, 442, Partial, "no idmapped mounts, no MOUNT_ATTR_NOSYMFOLLOW"),
  };
  return rows;
}

}  // namespace caisson::kernel
