// Kernel processes of other sandbox processes below the same --root: podman's containers of one pod have a sandbox process each, and all
// but the first one join the kernel process that the first one's has. Whoever keeps a kernel process listens on a socket in its own folder,
// which says by its name which process of the node that is.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "appkernel/pod.h"
#include "base/unique_fd.h"
#include "host/event_loop.h"

namespace caisson::appkernel {

class Neighbours {
 public:
  // dir: this sandbox's folder, <root>/<id>; "": it has none, and neither neighbours.
  Neighbours(host::EventLoop& loop, std::string dir);
  ~Neighbours();
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;

  // Hands a channel to the kernel process and one to a stand-in on (kernel/control/messages.h, Join). bounding: of the container.
  using Pass = std::function<Result<void>(const std::vector<int>& fds, uint64_t bounding)>;
  // Listens for those who want to join that kernel process.
  Result<void> offer(const Resident& first, Pass pass);

  // Those whose sockets are there: kernel_of and pid only. The ids are names of folders.
  Residents look() const;
  // A connection to the one that keeps that kernel process, and all of the resident.
  struct Joining {
    UniqueFd connection;
    Resident first;
  };
  Result<Joining> approach(const std::string& kernel_of, pid_t pid) const;
  // Has it pass the two channels on.
  static Result<void> join(const Joining& joining, const std::vector<int>& fds, uint64_t bounding);

 private:
  void accept_one();
  void take_from(int fd);
  void drop(int fd);
  std::string socket_path(const std::string& folder, pid_t pid) const;

  host::EventLoop& loop_;
  std::string dir_, path_;
  UniqueFd listener_;
  std::map<int, UniqueFd> connections_;
  Resident first_;
  Pass pass_;
};

}  // namespace caisson::appkernel
