#include "shim/rootfs.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace caisson::shim {
namespace {

struct FlagRow {
  const char* name;
  unsigned long set;
  unsigned long clear;
};
constexpr FlagRow kFlags[] = {
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"nosuid", MS_NOSUID, 0},
    {"suid", 0, MS_NOSUID},
    {"nodev", MS_NODEV, 0},
    {"dev", 0, MS_NODEV},
    {"noexec", MS_NOEXEC, 0},
    {"exec", 0, MS_NOEXEC},
    {"sync", MS_SYNCHRONOUS, 0},
    {"dirsync", MS_DIRSYNC, 0},
    {"remount", MS_REMOUNT, 0},
    {"mand", MS_MANDLOCK, 0},
    {"noatime", MS_NOATIME, 0},
    {"atime", 0, MS_NOATIME},
    {"nodiratime", MS_NODIRATIME, 0},
    {"relatime", MS_RELATIME, 0},
    {"strictatime", MS_STRICTATIME, 0},
    {"bind", MS_BIND, 0},
    {"rbind", MS_BIND | MS_REC, 0},
    {"defaults", 0, 0},
};

const FlagRow* find_flag(const std::string& option) {
  for (const FlagRow& row : kFlags)
    if (option == row.name) return &row;
  return nullptr;
}

// mount(2) takes one page of data. An overlay of many layers has more: its lower layers share a long parent folder, so the mount is made
// from there with relative names, as containerd itself does.
Result<void> change_to_common_folder(std::string& data, UniqueFd& previous) {
  size_t begin = data.find("lowerdir=");
  if (begin == std::string::npos) return make_error(E2BIG, "mount options are longer than a page and are not an overlay's");
  begin += sizeof("lowerdir=") - 1;
  size_t end = std::min(data.find(',', begin), data.size());
  std::string layers = data.substr(begin, end - begin);
  std::string first = layers.substr(0, layers.find(':'));
  size_t slash = first.find("/snapshots/");
  if (slash == std::string::npos) slash = first.rfind('/');
  std::string folder = first.substr(0, slash) + "/";
  std::string shortened;
  for (size_t at = 0; at <= layers.size();) {
    size_t colon = std::min(layers.find(':', at), layers.size());
    std::string layer = layers.substr(at, colon - at);
    shortened += (shortened.empty() ? "" : ":") + (layer.starts_with(folder) ? layer.substr(folder.size()) : layer);
    at = colon + 1;
  }
  previous.reset(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (chdir(folder.c_str()) != 0) return errno_error("enter {}", folder);
  data.replace(begin, end - begin, shortened);
  if (data.size() >= 4096) return make_error(E2BIG, "mount options are longer than a page ({} bytes)", data.size());
  return {};
}

Result<void> mount_one(const RootfsMount& row, const std::string& target) {
  MountOptions options = parse_mount_options(row.options);
  UniqueFd previous;
  Result<void> shortened;
  if (options.data.size() >= 4096) shortened = change_to_common_folder(options.data, previous);
  Result<void> outcome = std::move(shortened);
  if (outcome.ok()) {
    const char* data = options.data.empty() ? nullptr : options.data.c_str();
    if (mount(row.source.c_str(), target.c_str(), row.type.c_str(), options.flags, data) != 0)
      outcome = errno_error("mount {} ({}) at {}", row.source, row.type, target);
    // A bind ignores every other flag until it is remounted (mount(2)).
    else if ((options.flags & MS_BIND) && (options.flags & ~(MS_BIND | MS_REC)) &&
             mount(nullptr, target.c_str(), nullptr, options.flags | MS_REMOUNT, nullptr) != 0)
      outcome = errno_error("remount {} with its options", target);
  }
  if (previous.valid() && fchdir(previous.get()) != 0) return errno_error("return to the working directory");
  return outcome;
}

}  // namespace

MountOptions parse_mount_options(const std::vector<std::string>& options) {
  MountOptions parsed;
  for (const std::string& option : options) {
    if (const FlagRow* row = find_flag(option)) {
      parsed.flags = (parsed.flags & ~row->clear) | row->set;
    } else if (!option.empty()) {
      if (!parsed.data.empty()) parsed.data += ',';
      parsed.data += option;
    }
  }
  return parsed;
}

Result<void> mount_rootfs(const std::string& bundle, const std::vector<RootfsMount>& mounts) {
  std::string rootfs = bundle + "/rootfs";
  if (mounts.empty()) return {};
  if (mkdir(rootfs.c_str(), 0711) != 0 && errno != EEXIST) return errno_error("create {}", rootfs);
  for (const RootfsMount& row : mounts) {
    if (row.target.find("..") != std::string::npos)
      return make_error(EINVAL, "rootfs mount target \"{}\" must not have \"..\"", row.target);
    std::string target = row.target.empty() ? rootfs : rootfs + "/" + row.target;
    Result<void> mounted = mount_one(row, target);
    if (!mounted.ok()) {
      (void)unmount_rootfs(bundle);
      return std::move(mounted).error();
    }
  }
  return {};
}

Result<void> unmount_rootfs(const std::string& bundle) {
  std::string rootfs = bundle + "/rootfs";
  // Several mounts may be stacked; EINVAL says that nothing is mounted there any more.
  for (int i = 0; i < 64; ++i) {
    if (umount2(rootfs.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) continue;
    if (errno == EINVAL || errno == ENOENT) return {};
    return errno_error("unmount {}", rootfs);
  }
  return make_error(ELOOP, "{} is still mounted after 64 unmounts", rootfs);
}

}  // namespace caisson::shim
