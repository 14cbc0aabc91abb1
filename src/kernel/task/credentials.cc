#include "kernel/task/credentials.h"

namespace caisson::kernel {

bool Credentials::has_in(const UserNamespace& target, int capability) const {
  for (const UserNamespace* at = &target; at != nullptr; at = at->owner.get()) {
    if (at == user.get()) return has_own(capability);
    if (at->level <= user->level) return false;
    // Whoever made a namespace has every capability in it, from its parent.
    if (at->owner == user && at->creator == euid) return true;
  }
  return false;
}

bool Credentials::has_over(int capability, uid_t uid, gid_t gid) const {
  if (!has_own(capability)) return false;
  return user->is_initial() || (user->from_kernel(UserNamespace::Ids::Users, uid) && user->from_kernel(UserNamespace::Ids::Groups, gid));
}

}  // namespace caisson::kernel
