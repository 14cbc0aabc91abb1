// Credentials: who a task is. Immutable once shared: a change makes a new object.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernel/task/namespaces.h"

namespace caisson::kernel {

inline constexpr int kCapChown = 0, kCapDacOverride = 1, kCapDacReadSearch = 2, kCapFowner = 3, kCapFsetid = 4, kCapKill = 5,
                     kCapSetgid = 6, kCapSetuid = 7, kCapSetpcap = 8, kCapNetBindService = 10, kCapSysChroot = 18, kCapSysPtrace = 19,
                     kCapSysAdmin = 21, kCapSysNice = 23, kCapSysResource = 24, kCapSysTime = 25, kCapMknod = 27, kCapSetfcap = 31;
inline constexpr uint64_t kAllCapabilities = (1ULL << 41) - 1;

struct Credentials {
  uid_t uid = 0, euid = 0, suid = 0, fsuid = 0;
  gid_t gid = 0, egid = 0, sgid = 0, fsgid = 0;
  std::vector<gid_t> groups;
  uint64_t permitted = 0, effective = 0, inheritable = 0, bounding = 0, ambient = 0;
  uint32_t secure_bits = 0;
  bool no_new_privileges = false;
  std::shared_ptr<UserNamespace> user = UserNamespace::initial();

  // Towards what belongs to no nested user namespace: the network, limits, devices. What a nested one gives counts nothing here.
  bool has(int capability) const { return user->is_initial() && has_own(capability); }
  // Towards the task itself: what changes only who it is in its own user namespace.
  bool has_own(int capability) const { return effective >> capability & 1; }
  // Towards what belongs to a user namespace (capabilities(7), user_namespaces(7)).
  bool has_in(const UserNamespace& target, int capability) const;
  // Towards a file: its owner and group must mean something in the task's user namespace.
  bool has_over(int capability, uid_t uid, gid_t gid) const;
  // user 0 of its own user namespace, as the kernel counts; none: it has no such user.
  std::optional<uid_t> root() const { return user->to_kernel(UserNamespace::Ids::Users, 0); }
  bool in_group(gid_t group) const {
    if (group == fsgid) return true;
    for (gid_t g : groups)
      if (g == group) return true;
    return false;
  }
};
using CredentialsRef = std::shared_ptr<const Credentials>;

}  // namespace caisson::kernel
