#include "container/rootfs.h"

#include <fcntl.h>
#include <linux/stat.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/log.h"
#include "container/mounts.h"
#include "host/mount.h"
#include "host/rooted_path.h"

namespace caisson::container {
namespace {

struct Propagation {
  std::string_view name;
  unsigned long type;
};
constexpr Propagation kPropagations[] = {
    {"shared", MS_SHARED}, {"slave", MS_SLAVE}, {"private", MS_PRIVATE}, {"unbindable", MS_UNBINDABLE}};

// MS_ flags of linux.rootfsPropagation; 0 where it is not set.
Result<unsigned long> root_propagation(const oci::Spec& spec) {
  std::string_view name = spec.linux_.rootfs_propagation;
  if (name.empty()) return 0UL;
  unsigned long flags = 0;
  if (name.starts_with('r')) {
    flags |= MS_REC;
    name.remove_prefix(1);
  }
  for (const Propagation& row : kPropagations)
    if (row.name == name) return flags | row.type;
  return make_error(EINVAL, "linux.rootfsPropagation: \"{}\" is not a propagation type", spec.linux_.rootfs_propagation);
}

bool is_mount_root(int fd) {
  struct statx info {};
  return syscall(SYS_statx, fd, "", AT_EMPTY_PATH, 0, &info) == 0 && (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

// The mount that the root file system lies in must not be shared: pivot_root(2) refuses, and the bind would show up on the host.
Result<void> make_parent_private() {
  UniqueFd folder(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return errno_error("root.path: cannot open the root file system");
  for (int depth = 0; depth < 4096 && !is_mount_root(folder.get()); ++depth) {
    UniqueFd parent(openat(folder.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!parent) return errno_error("root.path: cannot open the folders above the root file system");
    folder = std::move(parent);
  }
  return host::change_mount(folder.get(), {.propagation = MS_PRIVATE}, false);
}

Result<UniqueFd> clone_root(InitContext& context) {
  auto tree = host::clone_mount(AT_FDCWD, ".", true);
  if (tree || !context.has_namespace("user")) return tree;
  return wanted_source(context, kRootSource);
}

Result<void> move_and_chroot(int root) {
  if (fchdir(root) != 0) return errno_error("cannot enter the root file system");
  if (mount(".", "/", nullptr, MS_MOVE, nullptr) != 0) return errno_error("cannot move the root file system to /");
  if (chroot(".") != 0) return errno_error("cannot chroot into the root file system");
  return {};
}

Result<void> pivot(int root) {
  const UniqueFd old_root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!old_root) return errno_error("cannot open /");
  if (fchdir(root) != 0) return errno_error("cannot enter the root file system");
  // pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one, and is taken away from there.
  if (syscall(SYS_pivot_root, ".", ".") != 0) {
    if (errno == EINVAL) return make_error(EINVAL, "pivot_root: Invalid argument; where / is an initramfs use --no-pivot");
    return errno_error("pivot_root");
  }
  if (fchdir(old_root.get()) != 0) return errno_error("cannot enter the old root");
  // What is unmounted here must stay mounted on the host.
  if (mount(nullptr, ".", nullptr, MS_SLAVE | MS_REC, nullptr) != 0) return errno_error("cannot make the old root a slave");
  if (umount2(".", MNT_DETACH) != 0) return errno_error("cannot unmount the old root");
  return {};
}

// The host's /dev/null, proved to be it.
Result<UniqueFd> host_null() {
  UniqueFd fd(open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat info;
  if (!fd || fstat(fd.get(), &info) != 0) return errno_error("cannot open /dev/null");
  if (!S_ISCHR(info.st_mode) || info.st_rdev != makedev(1, 3))
    return make_error(ENODEV, "/dev/null of this machine is not the null device");
  return fd;
}

Result<void> mask(int target) {
  struct stat info;
  if (fstat(target, &info) != 0) return errno_error("cannot stat it");
  if (S_ISDIR(info.st_mode)) {
    const UniqueFd empty = TRY(host::make_filesystem("tmpfs", "tmpfs", {"size=0"}, MOUNT_ATTR_RDONLY));
    return host::attach_mount(empty.get(), target);
  }
  const UniqueFd null = TRY(host_null());
  const UniqueFd copy = TRY(host::clone_mount(null.get(), "", false));
  return host::attach_mount(copy.get(), target);
}

Result<void> make_read_only(int target) {
  const UniqueFd copy = TRY(host::clone_mount(target, "", true));
  TRY(host::change_mount(copy.get(), {.set = MOUNT_ATTR_RDONLY}, false));
  return host::attach_mount(copy.get(), target);
}

}  // namespace

Result<UniqueFd> prepare_root(InitContext& context) {
  if (!context.has_namespace("mount")) {
    UniqueFd root(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) return errno_error("root.path: cannot open {}", context.spec.root.path);
    return root;
  }
  const unsigned long wanted = TRY(root_propagation(context.spec));
  const unsigned long propagation = wanted != 0 ? wanted : MS_SLAVE | MS_REC;
  if (mount(nullptr, "/", nullptr, propagation, nullptr) != 0)
    return errno_error("linux.rootfsPropagation: cannot set the propagation of /");
  if ((propagation & MS_SHARED) != 0 || (propagation & MS_REC) == 0) TRY(make_parent_private());
  auto tree = clone_root(context);
  if (!tree) return std::move(tree).error().within(fmt::format("root.path: {}", context.spec.root.path));
  // The clone is a peer of a shared mount of the host: what is mounted in it from here on would appear there too, and stay.
  if ((propagation & MS_SHARED) != 0) TRY(host::change_mount(tree->get(), {.propagation = MS_SLAVE}, false));
  const UniqueFd here(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!here) return errno_error("root.path: cannot open {}", context.spec.root.path);
  TRY(host::attach_mount(tree->get(), here.get()));
  return tree;
}

Result<void> protect_paths(const oci::Spec& spec, int root) {
  for (const std::string& path : spec.linux_.readonly_paths) {
    auto target = host::open_in_root(root, path);
    auto done = target ? make_read_only(target->fd.get()) : Result<void>(std::move(target).error());
    if (!done && done.error().code() != ENOENT && done.error().code() != ENOTDIR)
      return std::move(done).error().within(fmt::format("linux.readonlyPaths ({})", path));
  }
  for (const std::string& path : spec.linux_.masked_paths) {
    auto target = host::open_in_root(root, path);
    auto done = target ? mask(target->fd.get()) : Result<void>(std::move(target).error());
    if (!done && done.error().code() != ENOENT && done.error().code() != ENOTDIR)
      return std::move(done).error().within(fmt::format("linux.maskedPaths ({})", path));
  }
  return {};
}

Result<void> make_working_directory(const oci::Spec& spec, int root) {
  if (!spec.has_process || spec.process.cwd.empty()) return {};
  auto folder = host::open_in_root(root, spec.process.cwd, host::Missing::MakeFolder);
  // chdir(2) will tell, with the user's rights, what is wrong with it.
  if (!folder) log::debug("process.cwd: {}", folder.error().message());
  return {};
}

Result<void> enter_root(InitContext& context, int root) {
  const bool has_mounts = context.has_namespace("mount");
  if (context.spec.root.readonly) {
    if (!has_mounts) return make_error(EINVAL, "root.readonly needs a mount namespace in linux.namespaces");
    auto done = host::change_mount(root, {.set = MOUNT_ATTR_RDONLY}, false);
    if (!done) return std::move(done).error().within("root.readonly");
  }
  if (!has_mounts) {
    if (fchdir(root) != 0 || chroot(".") != 0) return errno_error("cannot chroot into {}", context.spec.root.path);
  } else if (context.options.no_pivot) {
    TRY(move_and_chroot(root));
  } else {
    TRY(pivot(root));
  }
  if (chdir("/") != 0) return errno_error("cannot enter the container's /");
  const unsigned long propagation = TRY(root_propagation(context.spec));
  if (has_mounts && propagation != 0 && (propagation & MS_PRIVATE) == 0 && mount(nullptr, "/", nullptr, propagation, nullptr) != 0)
    return errno_error("linux.rootfsPropagation: cannot set the propagation of the container's /");
  return {};
}

}  // namespace caisson::container
