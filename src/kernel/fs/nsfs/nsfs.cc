#include "kernel/fs/nsfs/nsfs.h"

#include <linux/nsfs.h>
#include <sys/resource.h>

#include "kernel/fs/common/node.h"
#include "kernel/fs/common/text.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

class NamespaceFileSystem : public FileSystem {
 public:
  NamespaceFileSystem() { device = 4; }
  const char* name() const override { return "nsfs"; }
  Result<InodeRef> root() override { return Errno(ENOENT); }
  bool names_say_all() const override { return true; }
  Result<struct statfs> stat_fs() override { return plain_statfs(0x6e736673); }
};

const MountRef& nsfs_mount() {
  static const auto* const mount = new MountRef([] {
    auto made = std::make_shared<Mount>();
    made->fs = std::make_shared<NamespaceFileSystem>();
    made->root = std::make_shared<Dentry>("", nullptr, nullptr);
    return made;
  }());
  return *mount;
}

class NamespaceFile : public File {
 public:
  NamespaceFile(Path path, int flags, NamespaceRef space) : File(std::move(path), flags), space_(std::move(space)) {}
  const NamespaceRef& space() const { return space_; }

  Result<long> ioctl(Task& task, unsigned command, uint64_t argument) override {
    switch (command) {
      case NS_GET_NSTYPE:
        return static_cast<long>(namespace_flag(space_->kind));
      case NS_GET_PARENT: {
        if (space_->kind != NamespaceKind::User && space_->kind != NamespaceKind::Pid) return Errno(EINVAL);
        return give(task, space_->parent_namespace());
      }
      case NS_GET_USERNS:
        return give(task, space_->owner);
      case NS_GET_OWNER_UID: {
        if (space_->kind != NamespaceKind::User) return Errno(EINVAL);
        const auto& user = static_cast<const UserNamespace&>(*space_);
        const uid_t shown = task.creds->user->shown(UserNamespace::Ids::Users, user.creator);
        TRY(task.write(UserPtr<uid_t>(argument), shown));
        return 0L;
      }
      default:
        return Errno(ENOTTY);
    }
  }

 private:
  // A descriptor, where the namespace is the caller's own or one nested in that (ioctl_ns(2)).
  static Result<long> give(Task& task, const NamespaceRef& space) {
    if (!space) return Errno(EPERM);
    const bool visible = space->kind == NamespaceKind::Pid ? static_cast<const PidNamespace&>(*space).is_within(*task.group->pids)
                                                           : static_cast<const UserNamespace&>(*space).is_within(*task.creds->user);
    if (!visible) return Errno(EPERM);
    const Path place = namespace_place(space);
    FileRef file = TRY(place.inode()->open(task, place, O_RDONLY));
    return static_cast<long>(TRY(task.fds->add(std::move(file), true, task.group->limit(RLIMIT_NOFILE).rlim_cur)));
  }
  const NamespaceRef space_;
};

class NamespaceInode : public MadeUpInode {
 public:
  explicit NamespaceInode(NamespaceRef space) : MadeUpInode(nsfs_mount()->fs, space->number, S_IFREG | 0444), space_(std::move(space)) {}
  Result<FileRef> open(Task& task, const Path& path, int flags) override {
    if ((flags & O_PATH) != 0) return MadeUpInode::open(task, path, flags);
    if ((flags & O_ACCMODE) != O_RDONLY) return Errno(EPERM);
    return FileRef(std::make_shared<NamespaceFile>(path, flags, space_));
  }

 private:
  const NamespaceRef space_;
};

}  // namespace

std::string namespace_text(const Namespace& space) {
  return std::string(namespace_name(space.kind)) + ":[" + std::to_string(space.number) + "]";
}

Path namespace_place(const NamespaceRef& space) {
  return {nsfs_mount(), std::make_shared<Dentry>(namespace_text(*space), nullptr, std::make_shared<NamespaceInode>(space))};
}

NamespaceRef namespace_of_file(const File& file) {
  const auto* ours = dynamic_cast<const NamespaceFile*>(&file);
  return ours != nullptr ? ours->space() : nullptr;
}

}  // namespace caisson::kernel
