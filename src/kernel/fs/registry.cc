#include "kernel/fs/registry.h"

#include <sys/mount.h>

#include <array>

#include "base/text.h"
#include "kernel/fs/cgroup/cgroup_fs.h"
#include "kernel/fs/dev/devices.h"
#include "kernel/fs/devpts/devpts.h"
#include "kernel/fs/mqueue/mqueue.h"
#include "kernel/fs/overlay/overlay.h"
#include "kernel/fs/proc/proc.h"
#include "kernel/fs/sysfs/sysfs.h"
#include "kernel/fs/tmpfs/tmpfs.h"
#include "kernel/net/network_namespace.h"
#include "kernel/task/kernel.h"
#include "kernel/task/task.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

using Maker = Result<std::shared_ptr<FileSystem>> (*)(Task& task, std::string_view options);

// Owned by who mounts it, and with ids as the user namespace of who mounts it has them.
Result<Tmpfs::Options> tmpfs_options(const Task& task, std::string_view options) {
  Tmpfs::Options parsed = TRY(Tmpfs::parse(options));
  const Credentials& creds = *task.creds;
  if (creds.user->is_initial()) return parsed;
  using Ids = UserNamespace::Ids;
  const bool has_user = options.starts_with("uid=") || options.find(",uid=") != options.npos;
  const bool has_group = options.starts_with("gid=") || options.find(",gid=") != options.npos;
  const auto user = has_user ? creds.user->to_kernel(Ids::Users, parsed.uid) : std::optional(creds.fsuid);
  const auto group = has_group ? creds.user->to_kernel(Ids::Groups, parsed.gid) : std::optional(creds.fsgid);
  if (!user || !group) return Errno(EINVAL);
  parsed.uid = *user;
  parsed.gid = *group;
  return parsed;
}

Result<std::shared_ptr<FileSystem>> make_tmpfs(Task& task, std::string_view options) {
  return std::shared_ptr<FileSystem>(Tmpfs::create(TRY(tmpfs_options(task, options))));
}

Result<std::shared_ptr<FileSystem>> make_ramfs(Task& task, std::string_view options) {
  return std::shared_ptr<FileSystem>(Tmpfs::create(TRY(tmpfs_options(task, options)), "ramfs"));
}

Result<std::shared_ptr<FileSystem>> make_devtmpfs(Task& task, std::string_view options) {
  Tmpfs::Options parsed = TRY(Tmpfs::parse(options));
  if (options.find("mode=") == options.npos) parsed.mode = 0755;
  const std::shared_ptr<Tmpfs> fs = Tmpfs::create(parsed, "devtmpfs");
  const InodeRef root = TRY(fs->root());
  fs->keep_root();
  TRY(make_default_devices(task, {nullptr, std::make_shared<Dentry>("", nullptr, root)}));
  return std::shared_ptr<FileSystem>(fs);
}

Result<std::shared_ptr<FileSystem>> make_mqueue(Task& task, std::string_view) { return make_mqueue_file_system(task.spaces->ipc); }

Result<std::shared_ptr<FileSystem>> make_devpts(Task&, std::string_view options) {
  return std::shared_ptr<FileSystem>(Devpts::create(TRY(Devpts::parse(options))));
}

Result<std::shared_ptr<FileSystem>> make_proc(Task& task, std::string_view) {
  if (!task.creds->has_in(*task.spaces->pids_for_children->owner, kCapSysAdmin)) return Errno(EPERM);
  return std::shared_ptr<FileSystem>(ProcFileSystem::create(task.kernel, task.group->pids));
}

Result<std::shared_ptr<FileSystem>> make_sysfs(Task& task, std::string_view) {
  // As Linux: it is the network namespace's.
  if (!task.creds->has_in(*task.spaces->network->owner, kCapSysAdmin)) return Errno(EPERM);
  return make_sysfs_file_system();
}

Result<std::shared_ptr<FileSystem>> make_overlay(Task& task, std::string_view options) {
  // Not for nested user namespaces: its layers are worked on with the mounter's rights, which are none outside of one.
  return std::shared_ptr<FileSystem>(TRY(OverlayFileSystem::create(task, options)));
}

struct Type {
  const char* name;
  Maker make;
  bool nested;  // also for who administers a nested user namespace only (FS_USERNS_MOUNT in Linux)
};
constexpr Type kTypes[] = {{"sysfs", make_sysfs, true},        {"tmpfs", make_tmpfs, true},
                           {"proc", make_proc, true},          {"cgroup2", make_cgroup_file_system, true},
                           {"devtmpfs", make_devtmpfs, false}, {"ramfs", make_ramfs, true},
                           {"devpts", make_devpts, true},      {"mqueue", make_mqueue, true},
                           {"overlay", make_overlay, false}};

// Is a file system of this type, with nothing laid over parts of it, mounted in the task's mount namespace? What masks parts of proc would
// be gone in a new one (mount_too_revealing in Linux).
bool is_fully_visible(const Task& task, std::string_view type) {
  for (const MountRef& mount : task.spaces->mounts->all()) {
    if (type != mount->fs->name() || mount->root->parent() != nullptr) continue;
    if (task.spaces->mounts->below(mount).size() == 1) return true;
  }
  return false;
}

struct FlagWord {
  const char* word;
  unsigned long set, clear;
};
constexpr FlagWord kFlagWords[] = {{"ro", MS_RDONLY, 0},
                                   {"rw", 0, MS_RDONLY},
                                   {"nosuid", MS_NOSUID, 0},
                                   {"suid", 0, MS_NOSUID},
                                   {"nodev", MS_NODEV, 0},
                                   {"dev", 0, MS_NODEV},
                                   {"noexec", MS_NOEXEC, 0},
                                   {"exec", 0, MS_NOEXEC},
                                   {"sync", MS_SYNCHRONOUS, 0},
                                   {"async", 0, MS_SYNCHRONOUS},
                                   {"noatime", MS_NOATIME, 0},
                                   {"atime", 0, MS_NOATIME},
                                   {"nodiratime", MS_NODIRATIME, 0},
                                   {"diratime", 0, MS_NODIRATIME},
                                   {"relatime", MS_RELATIME, 0},
                                   {"norelatime", 0, MS_RELATIME},
                                   {"strictatime", MS_STRICTATIME, MS_RELATIME},
                                   {"nostrictatime", 0, MS_STRICTATIME},
                                   {"dirsync", MS_DIRSYNC, 0},
                                   {"remount", MS_REMOUNT, 0},
                                   {"bind", MS_BIND, 0},
                                   {"rbind", MS_BIND | MS_REC, 0},
                                   {"defaults", 0, 0},
                                   {"private", MS_PRIVATE, 0},
                                   {"rprivate", MS_PRIVATE | MS_REC, 0},
                                   {"slave", MS_SLAVE, 0},
                                   {"rslave", MS_SLAVE | MS_REC, 0},
                                   {"shared", MS_SHARED, 0},
                                   {"rshared", MS_SHARED | MS_REC, 0},
                                   {"unbindable", MS_UNBINDABLE, 0}};

Result<Path> make_folders(Task& setup, std::string_view path) {
  Path at = setup.fs->root();
  while (!path.empty()) {
    while (path.starts_with('/')) path.remove_prefix(1);
    const std::string name(path.substr(0, path.find('/')));
    path.remove_prefix(name.size());
    if (name.empty() || name == ".") continue;
    if (name == "..") return Errno(EINVAL);
    Result<Path> next = walk_from(setup, at, name);
    if (!next && next.error() == Errno(ENOENT)) {
      (void)TRY(at.inode()->make(setup, name, S_IFDIR | 0755, 0));
      next = walk_from(setup, at, name);
    }
    at = TRY(std::move(next));
  }
  return at;
}

}  // namespace

Result<std::shared_ptr<FileSystem>> make_file_system(Task& task, std::string_view type, std::string_view options) {
  for (const Type& known : kTypes) {
    if (type != known.name) continue;
    if (!task.creds->user->is_initial()) {
      if (!known.nested) return Errno(EPERM);
      if ((type == "proc" || type == "sysfs") && !is_fully_visible(task, type)) return Errno(EPERM);
    }
    return known.make(task, options);
  }
  return Errno(ENODEV);
}

std::string file_system_types() {
  std::string text;
  for (const Type& known : kTypes) text += std::string("nodev\t") + known.name + "\n";
  return text;
}

Result<MountRef> mount_file_system(Task& task, const Path& point, std::string_view type, std::string source, unsigned long flags,
                                   std::string options) {
  const std::shared_ptr<FileSystem> fs = TRY(make_file_system(task, type, options));
  return mount_made(task, *task.spaces->mounts, fs, point, std::move(source), flags, std::move(options));
}

Result<MountRef> mount_made(Task& task, MountTable& table, const std::shared_ptr<FileSystem>& fs, const Path& point, std::string source,
                            unsigned long flags, std::string options) {
  const auto root = std::make_shared<Dentry>("", nullptr, TRY(fs->root()));
  if (const auto* overlay = dynamic_cast<const OverlayFileSystem*>(fs.get()); overlay != nullptr && overlay->read_only())
    flags |= MS_RDONLY;
  // mount(2): the default, of whatever file system.
  if ((flags & (MS_NOATIME | MS_STRICTATIME)) == 0) flags |= MS_RELATIME;
  if (!task.creds->user->is_initial()) flags |= MS_NODEV;  // device nodes are made by who administers all
  return table.add(fs, root, point, flags, std::move(source), std::move(options));
}

std::unique_ptr<Task> make_setup_task(Kernel& kernel, Container& container) {
  auto task = std::make_unique<Task>(kernel);
  task->group = std::make_shared<ThreadGroup>();
  task->group->pids = container.pids;
  task->group->container = &container;
  task->group->handlers = std::make_shared<SignalHandlers>();
  task->fds = std::make_shared<FdTable>();
  task->fs = std::make_shared<FsContext>(container.root, container.root);
  task->fs->umask = 0;
  task->spaces = container.namespaces();
  auto creds = std::make_shared<Credentials>();
  creds->permitted = creds->effective = creds->bounding = kAllCapabilities;
  task->creds = creds;
  return task;
}

unsigned long split_mount_options(std::string_view text, std::string* rest) {
  unsigned long flags = 0;
  for (const std::string_view word : split_fields(text, ',')) {
    bool known = false;
    for (const FlagWord& each : kFlagWords) {
      if (word != each.word) continue;
      flags = (flags & ~each.clear) | each.set;
      known = true;
    }
    if (!known && rest != nullptr) *rest += (rest->empty() ? "" : ",") + std::string(word);
  }
  return flags;
}

std::string mount_flags_text(unsigned long flags) {
  std::string text = (flags & MS_RDONLY) != 0 ? "ro" : "rw";
  for (const auto& [flag, word] : std::initializer_list<std::pair<unsigned long, const char*>>{{MS_NOSUID, "nosuid"},
                                                                                               {MS_NODEV, "nodev"},
                                                                                               {MS_NOEXEC, "noexec"},
                                                                                               {MS_SYNCHRONOUS, "sync"},
                                                                                               {MS_NOATIME, "noatime"},
                                                                                               {MS_NODIRATIME, "nodiratime"},
                                                                                               {MS_RELATIME, "relatime"}})
    if ((flags & flag) != 0) text += std::string(",") + word;
  return text;
}

Result<MountRef> mount_in_container(Task& setup, std::string_view path, std::string_view type, std::string source,
                                    std::string_view options) {
  const Path point = TRY(make_folders(setup, path));
  std::string rest;
  const unsigned long flags =
      split_mount_options(options, &rest) & ~(MS_REMOUNT | MS_BIND | MS_REC | MS_PRIVATE | MS_SLAVE | MS_SHARED | MS_UNBINDABLE);
  return mount_file_system(setup, point, type, std::move(source), flags, std::move(rest));
}

Result<void> mount_usual(Task& setup) {
  struct Usual {
    const char *path, *type, *options;
  };
  static constexpr Usual kUsual[] = {{"/proc", "proc", "nosuid,nodev,noexec"},
                                     {"/dev", "devtmpfs", "nosuid,mode=755,size=65536k"},
                                     {"/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"},
                                     {"/dev/shm", "tmpfs", "nosuid,nodev,noexec,mode=1777"},
                                     {"/dev/mqueue", "mqueue", "nosuid,nodev,noexec"},
                                     {"/sys", "sysfs", "ro,nosuid,nodev,noexec"},
                                     {"/sys/fs/cgroup", "cgroup2", "ro,nosuid,nodev,noexec"}};
  for (const Usual& each : kUsual) (void)TRY(mount_in_container(setup, each.path, each.type, each.type, each.options));
  return {};
}

}  // namespace caisson::kernel
