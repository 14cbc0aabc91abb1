#include "kernel/fs/host/identity.h"

#include <linux/capability.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>

namespace caisson::kernel {
namespace {

constexpr uint64_t kFileCapabilities = 1ULL << kCapChown | 1ULL << kCapDacOverride | 1ULL << kCapDacReadSearch | 1ULL << kCapFowner |
                                       1ULL << kCapFsetid | 1ULL << kCapSetfcap | 1ULL << kCapMknod;

struct Identity {
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups;
  uint64_t capabilities;
};
// Not known at first: a thread inherits what its maker was acting as at that moment.
thread_local std::optional<Identity> t_now;
int g_proc = -1;

// Of the effective set, only those about files change; what is not permitted to the kernel process cannot come back.
void set_capabilities(uint64_t wanted) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) != 0) return;
  const uint64_t permitted = data[0].permitted | static_cast<uint64_t>(data[1].permitted) << 32;
  uint64_t effective = data[0].effective | static_cast<uint64_t>(data[1].effective) << 32;
  effective = (effective & ~kFileCapabilities) | (wanted & permitted);
  data[0].effective = static_cast<uint32_t>(effective);
  data[1].effective = static_cast<uint32_t>(effective >> 32);
  syscall(SYS_capset, &header, data);
}

void take(uid_t uid, gid_t gid, const std::vector<gid_t>& groups, uint64_t capabilities) {
  if (t_now && t_now->uid == uid && t_now->gid == gid && t_now->capabilities == capabilities && t_now->groups == groups) return;
  // The raw calls are about this thread only; the C library's would change every thread.
  if (!t_now || t_now->groups != groups) syscall(SYS_setgroups, groups.size(), groups.data());
  if (!t_now || t_now->gid != gid) syscall(SYS_setfsgid, gid);
  if (!t_now || t_now->uid != uid) syscall(SYS_setfsuid, uid);
  set_capabilities(capabilities);
  t_now = Identity{uid, gid, groups, capabilities};
}

}  // namespace

void act_as(const Credentials& creds) {
  // What a nested user namespace gives is nothing to the host.
  take(creds.fsuid, creds.fsgid, creds.groups, creds.user->is_initial() ? creds.effective & kFileCapabilities : 0);
}
void act_as_kernel() { take(0, 0, {}, kFileCapabilities); }

void set_proc_folder(int fd) { g_proc = fd; }
int proc_folder() { return g_proc; }
bool enter_proc_folder() { return fchdir(g_proc) == 0; }

FdName::FdName(int fd) { snprintf(text, sizeof text, "self/fd/%d", fd); }

}  // namespace caisson::kernel
