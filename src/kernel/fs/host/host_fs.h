// Files of the host below a folder: the container's root file system, volumes. Every access goes through a descriptor and one name without
// a slash, or through several below it that are no links (RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS), so that nothing outside of the folder can
// be reached, whatever others do to it at the same time.
#pragma once

#include <memory>

#include "base/unique_fd.h"
#include "kernel/fs/host/memory_meter.h"
#include "kernel/vfs/file.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

class HostFileSystem : public FileSystem, public std::enable_shared_from_this<HostFileSystem> {
 public:
  // root: an O_PATH descriptor of a folder or a file; `type`: what /proc/mounts says. place: what keeps the mount where it hears of others'
  // mounts below it (control/host_mounts.h), which are seen through it; null: nothing is ever mounted below it on the host.
  static Result<std::shared_ptr<HostFileSystem>> create(UniqueFd root, std::string type = "caissonfs",
                                                        std::shared_ptr<const UniqueFd> place = nullptr);
  const char* name() const override { return type_.c_str(); }
  Result<InodeRef> root() override;
  Result<struct statfs> stat_fs() override;
  bool may_keep_folders() const override { return place_ == nullptr; }
  // From now on what it holds is memory of a container's. Before it is used.
  void meter(std::shared_ptr<MemoryMeter> meter) { meter_ = std::move(meter); }
  // Null: nobody counts it.
  const std::shared_ptr<MemoryMeter>& meter() const { return meter_; }

 private:
  HostFileSystem(UniqueFd root, std::string type, std::shared_ptr<const UniqueFd> place)
      : root_(std::move(root)), type_(std::move(type)), place_(std::move(place)) {}
  UniqueFd root_;
  std::string type_;
  std::shared_ptr<const UniqueFd> place_;
  std::shared_ptr<MemoryMeter> meter_;
};

// A full descriptor for what an O_PATH descriptor stands for, with open(2)'s flags.
Result<UniqueFd> reopen(int path_fd, int flags);

}  // namespace caisson::kernel
