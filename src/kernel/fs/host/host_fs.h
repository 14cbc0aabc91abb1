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
  // From now on what it holds counts there. Before it is used.
  void count_in(std::shared_ptr<HeldMemory> memory) { meter_ = std::make_unique<MemoryMeter>(root_.get(), std::move(memory)); }
  // Null: nobody counts it. Lives as long as the file system.
  MemoryMeter* meter() const { return meter_.get(); }

 private:
  HostFileSystem(UniqueFd root, std::string type, std::shared_ptr<const UniqueFd> place)
      : root_(std::move(root)), type_(std::move(type)), place_(std::move(place)) {}
  UniqueFd root_;
  std::string type_;
  std::shared_ptr<const UniqueFd> place_;
  std::unique_ptr<MemoryMeter> meter_;
};

// A full descriptor for what an O_PATH descriptor stands for, with open(2)'s flags.
Result<UniqueFd> reopen(int path_fd, int flags);

}  // namespace caisson::kernel
