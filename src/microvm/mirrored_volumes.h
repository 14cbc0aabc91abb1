// Volumes that kubelet's atomic writer keeps (configMap, secret, projected, downwardAPI): the guest has them in its memory, and is told
// when they change on the node, so that programs inside which wait for updates by inotify(7) see them. Other volumes are shared as they
// are.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "host/folder_watch.h"
#include "microvm/guest_link.h"
#include "microvm/guest_spec.h"

namespace caisson::microvm {

// Whether a folder looks as kubelet's atomic writer leaves it, in which nobody else writes: "..data" names a folder "..<time>" beside it,
// and everything else are links. And whether it is small: 1 MiB and 512 files. The kernel must be able to tell of its changes.
bool is_atomic_volume(const std::string& path);

class MirroredVolumes {
 public:
  // link must outlive this object.
  MirroredVolumes(host::EventLoop& loop, GuestLink& link) : loop_(loop), link_(link) {}
  ~MirroredVolumes() { *alive_ = false; }
  MirroredVolumes(const MirroredVolumes&) = delete;
  MirroredVolumes& operator=(const MirroredVolumes&) = delete;

  // Watches the volumes, which have been exposed in the share under the same names, and has the guest make its copies; from then on it
  // follows their changes. done() when all copies are there, or with the first error.
  void add(const std::vector<Mirror>& mirrors, std::function<void(Result<void>)> done);
  // Forgets those below the container's folder, here and in the guest.
  void remove(const std::string& folder);

 private:
  struct Volume {
    std::string name;
    int watch = -1;
    bool busy = false, again = false;  // the guest is copying; and has to do so once more
    host::EventLoop::TimerId delay = 0;
  };
  void changed(const std::shared_ptr<Volume>& volume);
  void copy(const std::shared_ptr<Volume>& volume, std::function<void(Result<void>)> done);

  host::EventLoop& loop_;
  GuestLink& link_;
  std::unique_ptr<host::FolderWatch> watch_;
  std::map<std::string, std::shared_ptr<Volume>> volumes_;  // by name
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace caisson::microvm
