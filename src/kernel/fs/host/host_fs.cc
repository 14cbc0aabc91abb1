#include "kernel/fs/host/host_fs.h"

#include <linux/limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "kernel/fs/dev/devices.h"
#include "kernel/fs/host/device_file.h"
#include "kernel/fs/host/host_file.h"
#include "kernel/fs/host/identity.h"
#include "kernel/task/task.h"

namespace caisson::kernel {

Result<UniqueFd> reopen(int path_fd, int flags) {
  UniqueFd fd(openat(proc_folder(), FdName(path_fd).text, flags | O_CLOEXEC | O_NOCTTY));
  if (!fd) return host_errno();
  return fd;
}

namespace {

// Only what changes how the host's descriptor behaves; blocking, close-on-exec and the way of finding the name are the kernel's.
constexpr int kHostFlags = O_ACCMODE | O_APPEND | O_TRUNC | O_DIRECT | O_NOATIME | O_SYNC | O_DSYNC | O_DIRECTORY;

class PathFile : public File {  // O_PATH
 public:
  PathFile(Path path, int flags) : File(std::move(path), flags) {}
};

class HostInode : public Inode {
 public:
  HostInode(std::shared_ptr<FileSystem> fs, UniqueFd fd, const struct stat& stat)
      : Inode(std::move(fs)), fd_(std::move(fd)), mode_(stat.st_mode), device_(stat.st_rdev), identity_(stat.st_dev, stat.st_ino) {
    const std::optional<DeviceNumber> device = may_stand_for_device(stat) ? device_of_file(FdName(fd_.get()).text) : std::nullopt;
    if (!device) return;
    stands_for_device_ = true;
    mode_ = device->type;
    device_ = device->number;
  }

  static Result<InodeRef> make(std::shared_ptr<FileSystem> fs, UniqueFd fd) {
    struct stat stat;
    TRY(host_result(fstat(fd.get(), &stat)));
    return InodeRef(std::make_shared<HostInode>(std::move(fs), std::move(fd), stat));
  }

  Result<struct statx> stat() override {
    struct statx stat;
    TRY(host_result(statx(fd_.get(), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &stat)));
    if (stands_for_device_) show_device(stat, {type(), device_});
    return stat;
  }
  mode_t type() const override { return mode_ & S_IFMT; }
  int host_fd() const override { return fd_.get(); }
  std::pair<uint64_t, uint64_t> identity() const override { return identity_; }

  // Also several names at once (vfs/walk.cc), the last one of whatever kind, the others folders of this mount: ELOOP for links, EXDEV.
  Result<InodeRef> lookup(Task& task, std::string_view name) override {
    act_as(*task.creds);
    UniqueFd fd;
    if (name.find('/') == name.npos) {
      fd.reset(openat(fd_.get(), std::string(name).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    } else {
      open_how how{};
      how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
      how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
      fd.reset(static_cast<int>(syscall(SYS_openat2, fd_.get(), std::string(name).c_str(), &how, sizeof how)));
    }
    if (!fd) return host_errno();
    return make(fs(), std::move(fd));
  }

  Result<InodeRef> make(Task& task, std::string_view name, mode_t mode, dev_t device) override {
    TRY(may_make());
    act_as(*task.creds);
    const std::string text(name);
    switch (mode & S_IFMT) {
      case S_IFDIR:
        TRY(host_result(mkdirat(fd_.get(), text.c_str(), mode & 07777)));
        break;
      case S_IFREG: {
        // Not opened, since the host would tell watches of it; where a file system has no other way, it is.
        const Result<long> made = host_result(mknodat(fd_.get(), text.c_str(), mode, 0));
        if (made) break;
        if (made.error() != Errno(ENOSYS) && made.error() != Errno(EOPNOTSUPP) && made.error() != Errno(EPERM)) return made.error();
        const UniqueFd fd(openat(fd_.get(), text.c_str(), O_CREAT | O_EXCL | O_RDONLY | O_NOFOLLOW | O_CLOEXEC, mode & 07777));
        if (!fd) return host_errno();
        break;
      }
      case S_IFIFO:
      case S_IFSOCK:
        TRY(host_result(mknodat(fd_.get(), text.c_str(), mode, 0)));
        break;
      case S_IFCHR:
        if (device == 0) {  // a whiteout of an overlay, which is no device
          TRY(host_result(mknodat(fd_.get(), text.c_str(), mode, 0)));
          break;
        }
        [[fallthrough]];
      case S_IFBLK:
        TRY(make_device_file(fd_.get(), text.c_str(), mode, device));
        break;
      default:
        return Errno(EINVAL);
    }
    return lookup(task, name);
  }

  Result<InodeRef> make_link(Task& task, std::string_view name, std::string_view target) override {
    TRY(may_make());
    act_as(*task.creds);
    TRY(host_result(symlinkat(std::string(target).c_str(), fd_.get(), std::string(name).c_str())));
    return lookup(task, name);
  }

  Result<void> link(Task& task, std::string_view name, const InodeRef& existing) override {
    if (existing->host_fd() < 0) return Errno(EXDEV);
    act_as(*task.creds);
    TRY(host_result(linkat(proc_folder(), FdName(existing->host_fd()).text, fd_.get(), std::string(name).c_str(), AT_SYMLINK_FOLLOW)));
    return {};
  }

  Result<void> unlink(Task& task, std::string_view name) override {
    act_as(*task.creds);
    TRY(host_result(unlinkat(fd_.get(), std::string(name).c_str(), 0)));
    return {};
  }

  Result<void> remove_folder(Task& task, std::string_view name) override {
    act_as(*task.creds);
    TRY(host_result(unlinkat(fd_.get(), std::string(name).c_str(), AT_REMOVEDIR)));
    return {};
  }

  Result<void> rename(Task& task, std::string_view name, Inode& to, std::string_view new_name, unsigned flags) override {
    if (to.host_fd() < 0) return Errno(EXDEV);
    act_as(*task.creds);
    TRY(host_result(renameat2(fd_.get(), std::string(name).c_str(), to.host_fd(), std::string(new_name).c_str(), flags)));
    return {};
  }

  Result<FileRef> make_unnamed(Task& task, const Path& path, int flags, mode_t mode) override {
    TRY(may_make());
    act_as(*task.creds);
    UniqueFd fd(openat(fd_.get(), ".", (flags & kHostFlags & ~O_TRUNC) | O_TMPFILE | O_CLOEXEC | (flags & O_EXCL), mode));
    if (!fd) return host_errno();
    // An inode of its own, with a name that no lookup finds.
    InodeRef inode = TRY(make(fs(), TRY(reopen(fd.get(), O_PATH))));
    const auto dentry = std::make_shared<Dentry>("#" + std::to_string(inode->identity().second), path.dentry, inode);
    dentry->mark_deleted();
    return FileRef(std::make_shared<HostFile>(Path{path.mount, dentry}, flags & ~(O_TMPFILE & ~O_DIRECTORY), std::move(fd), meter()));
  }

  Result<std::string> read_link(Task&) override {
    char target[4096];
    const long size = TRY(host_result(readlinkat(fd_.get(), "", target, sizeof target)));
    return std::string(target, static_cast<size_t>(size));
  }

  Result<FileRef> open(Task& task, const Path& path, int flags) override {
    if ((flags & O_PATH) != 0) return FileRef(std::make_shared<PathFile>(path, flags));
    // These are opened by nobody but the kernel: the host is asked whether it may be.
    if ((type() == S_IFCHR || type() == S_IFBLK || type() == S_IFIFO) && (flags & kOpenTrusted) == 0) {
      const int mode = flags & O_ACCMODE;
      TRY(access(task, mode == O_RDONLY ? R_OK : mode == O_WRONLY ? W_OK : R_OK | W_OK, true));
    }
    switch (type()) {
      case S_IFCHR:
      case S_IFBLK:
        return open_device(task, path, flags, type(), device_);
      case S_IFSOCK:
        return Errno(ENXIO);
      case S_IFIFO:
        return open_named_pipe(task, path, flags, identity_);
    }
    if ((flags & kOpenTrusted) != 0)
      act_as_kernel();
    else
      act_as(*task.creds);
    UniqueFd fd = TRY(reopen(fd_.get(), flags & kHostFlags));
    return FileRef(std::make_shared<HostFile>(path, flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | O_CLOEXEC | kOpenTrusted),
                                              std::move(fd), meter()));
  }

  Result<void> set_attributes(Task& task, const Attributes& a) override {
    act_as(*task.creds);
    const FdName name(fd_.get());
    if ((a.mask & STATX_SIZE) != 0) TRY(host_result(truncate(name.text, a.size)));
    if ((a.mask & (STATX_UID | STATX_GID)) != 0)
      TRY(host_result(
          fchownat(fd_.get(), "", (a.mask & STATX_UID) != 0 ? a.uid : -1, (a.mask & STATX_GID) != 0 ? a.gid : -1, AT_EMPTY_PATH)));
    if ((a.mask & STATX_MODE) != 0) {
      if (type() == S_IFLNK) return Errno(EOPNOTSUPP);
      TRY(host_result(fchmodat(proc_folder(), name.text, (a.mode & 07777) | (stands_for_device_ ? kDeviceMark : 0), 0)));
    }
    if ((a.mask & (STATX_ATIME | STATX_MTIME)) != 0) {
      const timespec times[2] = {(a.mask & STATX_ATIME) != 0 ? a.atime : timespec{0, UTIME_OMIT},
                                 (a.mask & STATX_MTIME) != 0 ? a.mtime : timespec{0, UTIME_OMIT}};
      TRY(host_result(utimensat(fd_.get(), "", times, AT_EMPTY_PATH)));
    }
    return {};
  }

  Result<void> access(Task& task, int mode, bool effective) override {
    if (effective) {
      act_as(*task.creds);
    } else {
      Credentials real = *task.creds;
      real.fsuid = real.uid;
      real.fsgid = real.gid;
      real.effective = real.uid == real.root() ? real.permitted : 0;
      act_as(real);
    }
    // AT_EACCESS: as the identity that was just taken on.
    if (type() == S_IFLNK) return {};
    TRY(host_result(faccessat2_raw(mode)));
    return {};
  }

  // The one that says which device this is, is nobody's.
  bool has_no(std::string_view name) const { return name == kDeviceAttribute || (stands_for_device_ && name.starts_with("user.")); }
  Result<std::string> get_xattr(Task& task, const char* name) override {
    if (has_no(name)) return Errno(ENODATA);
    act_as(*task.creds);
    const FdName file(fd_.get());
    char small[256];  // most are small, and exec asks each file
    if (const ssize_t size = getxattr(file.text, name, small, sizeof small); size >= 0)
      return std::string(small, static_cast<size_t>(size));
    if (errno != ERANGE) return host_errno();
    std::string value(XATTR_SIZE_MAX, '\0');
    const long size = TRY(host_result(getxattr(file.text, name, value.data(), value.size())));
    value.resize(static_cast<size_t>(size));
    return value;
  }
  Result<void> set_xattr(Task& task, const char* name, std::string_view value, int flags) override {
    if (has_no(name)) return Errno(EPERM);
    act_as(*task.creds);
    TRY(host_result(setxattr(FdName(fd_.get()).text, name, value.data(), value.size(), flags)));
    return {};
  }
  Result<void> remove_xattr(Task& task, const char* name) override {
    if (has_no(name)) return Errno(EPERM);
    act_as(*task.creds);
    TRY(host_result(removexattr(FdName(fd_.get()).text, name)));
    return {};
  }
  Result<std::string> list_xattr(Task& task) override {
    act_as(*task.creds);
    std::string names(65536, '\0');
    const long size = TRY(host_result(listxattr(FdName(fd_.get()).text, names.data(), names.size())));
    names.resize(static_cast<size_t>(size));
    if (!stands_for_device_ && names.find(kDeviceAttribute) == names.npos) return names;
    std::string shown;
    for (size_t at = 0; at < names.size();) {
      const std::string name = names.c_str() + at;
      at += name.size() + 1;
      if (!has_no(name)) shown.append(name).push_back('\0');
    }
    return shown;
  }

 private:
  // All of these inodes are a HostFileSystem's.
  MemoryMeter* meter() { return static_cast<HostFileSystem&>(*fs()).meter(); }
  Result<void> may_make() { return meter() ? meter()->may_take(MemoryMeter::kFile) : Result<void>(); }
  int faccessat2_raw(int mode) { return static_cast<int>(syscall(SYS_faccessat2, fd_.get(), "", mode, AT_EMPTY_PATH | AT_EACCESS)); }

  UniqueFd fd_;
  mode_t mode_;
  dev_t device_;
  bool stands_for_device_ = false;  // device_file.h
  std::pair<uint64_t, uint64_t> identity_;
};

}  // namespace

Result<std::shared_ptr<HostFileSystem>> HostFileSystem::create(UniqueFd root, std::string type, std::shared_ptr<const UniqueFd> place) {
  return std::shared_ptr<HostFileSystem>(new HostFileSystem(std::move(root), std::move(type), std::move(place)));
}

Result<InodeRef> HostFileSystem::root() {
  UniqueFd copy(fcntl(root_.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return host_errno();
  return HostInode::make(shared_from_this(), std::move(copy));
}

Result<struct statfs> HostFileSystem::stat_fs() {
  struct statfs stat;
  TRY(host_result(fstatfs(root_.get(), &stat)));
  return stat;
}

}  // namespace caisson::kernel
