#include "kernel/control/host_mounts.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kernel/control/confine.h"
#include "kernel/fs/host/host_fs.h"
#include "kernel/fs/registry.h"
#include "kernel/klog.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

Result<UniqueFd> open_one(const std::string& point) {
  UniqueFd fd(open_tree(AT_FDCWD, point.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW));
  // A mount that may not be bound elsewhere (MS_UNBINDABLE) is used as it is; its flags change where it lies.
  if (!fd) fd.reset(open(point.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return host_errno();
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  TRY(host_result(mount_setattr(fd.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes)));
  return fd;
}

// As the runtime has set it up on the host. A master is the node's: what is heard of it lies below the host's mount, not in this table.
void spread_like(Container& container, const MountRef& mount, const std::string& tags) {
  const unsigned long type = tags.starts_with("shared:") ? MS_SHARED : tags == "unbindable" ? MS_UNBINDABLE : 0;
  if (type != 0) (void)container.mounts->set_propagation(mount, type, false);
}

bool hears(const MountInfo& mount) {
  return mount.point != "/" && (mount.tags.find("master:") != mount.tags.npos || mount.tags.find("shared:") != mount.tags.npos);
}

bool is_folder(int fd) {
  struct stat stat {};
  return fstat(fd, &stat) == 0 && S_ISDIR(stat.st_mode);
}

// place: of those that hear of others' mounts; null: none do.
Result<void> import_one(Task& setup, Container& container, OpenMount& open, const std::shared_ptr<const UniqueFd>& place) {
  const Path point = TRY(walk(setup, AT_FDCWD, open.mount.point));
  std::string own_options;  // "size=64k,mode=755"; those of a file system of the node's are nobody's business
  const bool is_private = open.mount.source.starts_with(kPrivateMemory);
  if (is_private) {
    open.mount.source.erase(0, std::string_view(kPrivateMemory).size());
    (void)split_mount_options(open.mount.super_options, &own_options);
  }
  const auto fs = TRY(HostFileSystem::create(std::move(open.fd), open.mount.type, hears(open.mount) ? place : nullptr));
  if (is_private) fs->count_in(container.held);
  const auto root = std::make_shared<Dentry>("", nullptr, TRY(fs->root()));
  std::string rest;
  const unsigned long flags = split_mount_options(open.mount.options, &rest);
  spread_like(container, TRY(container.mounts->add(fs, root, point, flags, open.mount.source, std::move(own_options))), open.mount.tags);
  return {};
}

void tell(const MountInfo& mount, Errno error) {
  klog(LogLevel::Warning, "the mount on %s is not in the kernel's table: %s", mount.point.c_str(), strerrordesc_np(error.value));
}

}  // namespace

std::vector<OpenMount> open_host_mounts(std::string_view mountinfo, const std::function<bool(std::string_view)>& skip) {
  std::vector<OpenMount> opened;
  for (MountInfo& mount : parse_mountinfo(mountinfo)) {
    if (mount.point != "/" && skip(mount.point)) continue;
    Result<UniqueFd> fd = open_one(mount.point);
    if (!fd) {
      tell(mount, fd.error());
      continue;
    }
    opened.push_back({std::move(mount), *std::move(fd)});
  }
  return opened;
}

void let_mounts_hear(std::vector<OpenMount>& mounts) {
  std::vector<int> hearing;
  for (const OpenMount& open : mounts)
    if (hears(open.mount) && is_folder(open.fd.get())) hearing.push_back(open.fd.get());
  if (hearing.empty()) return;
  Result<UniqueFd> place = make_mount_namespace(hearing);
  if (!place) {
    klog(LogLevel::Warning, "what is mounted below volumes on the node later will not be seen: %s", strerrordesc_np(place.error().value));
    return;
  }
  MountInfo info;
  info.type = kHearingPlace;
  mounts.push_back({std::move(info), *std::move(place)});
}

void import_host_mounts(Task& setup, Container& container, std::vector<OpenMount> mounts,
                        const std::function<void(std::string_view point)>& before) {
  std::string root_tags;
  std::shared_ptr<const UniqueFd> place;
  if (!mounts.empty() && mounts.back().mount.type == kHearingPlace) {
    place = std::make_shared<const UniqueFd>(std::move(mounts.back().fd));
    mounts.pop_back();
  }
  for (OpenMount& open : mounts) {
    if (open.mount.point == "/") {
      root_tags = open.mount.tags;
      continue;
    }
    before(open.mount.point);
    if (auto imported = import_one(setup, container, open, place); !imported) tell(open.mount, imported.error());
  }
  spread_like(container, container.root.mount, root_tags);
}

}  // namespace caisson::kernel
