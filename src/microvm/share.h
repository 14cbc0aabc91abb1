// Share: the tree of host files that a VM's guest sees, and the only host files that its VMM and virtiofsd can reach.
//
// It is a mount namespace of its own, whose root is an empty tmpfs (shared propagation). The sandbox process stays in its own namespace:
// hooks and engines' paths mean there what they always mean, and mounts that an engine makes later are seen. What is exposed is cloned
// there (open_tree(2)) and moved into the share's namespace; the jails of VMM and virtiofsd hold a slave copy of that tree (see
// Hypervisor), so it reaches a running guest. Nothing of it can be left behind: it goes with the namespace.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::microvm {

class Share {
 public:
  // Makes the empty tree. Needs CAP_SYS_ADMIN. Forks; the calling process must be single-threaded (as for expose and remove).
  static Result<Share> create();

  // Nothing that is mounted or unmounted in the share ever reaches the host's own mounts.
  struct Options {
    bool readonly = false;
    bool recursive =
        true;  // with what is mounted below, but for kernel interfaces (proc, sysfs, cgroup, debugfs...), which never reach a guest
    bool follows = false;  // what is mounted below it on the host later appears too, where the host's mount is a shared one
  };
  // Makes host_path (a folder or any other file, resolved in the calling process's mount namespace, symbolic links followed) appear as
  // <share>/<name> on the host side and in the running guest. name: relative, no "..", may have several components ("c1/rootfs"); folders
  // on the way are made. Returns name. Errors: ENOENT, EEXIST (name is taken), EINVAL (a kernel interface such as /proc). The mount is
  // nosuid,nodev,noexec on the host's side only: in the guest set-user-id programs and device nodes work as the guest's own mount options
  // say.
  Result<std::string> expose(const std::string& host_path, const std::string& name, Options options);
  // Makes an empty folder <share>/<name> in the tmpfs itself (root-owned, 0755), for things to be exposed below it.
  Result<void> make_folder(const std::string& name);
  // Undoes expose or make_folder with everything below, also in the running guest's view; lazily, so it never blocks. Idempotent.
  Result<void> remove(const std::string& name);

  // The namespace, for VmConfig::share_namespace. Borrowed.
  int namespace_fd() const { return namespace_.get(); }

 private:
  explicit Share(UniqueFd ns) : namespace_(std::move(ns)) {}
  UniqueFd namespace_;
};

}  // namespace caisson::microvm
