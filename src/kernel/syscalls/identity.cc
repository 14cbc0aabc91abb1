// Who a task is: user and group ids, groups, capabilities.
#include <linux/capability.h>

#include <algorithm>

#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

// Puts a changed identity in place; losing root takes the capabilities along (capabilities(7), "Effect of user ID changes").
void commit(Task& task, Credentials changed) {
  const Credentials& old = *task.creds;
  const bool keeps = (changed.secure_bits & 0x10) != 0, fixup = (changed.secure_bits & 4) == 0;
  const std::optional<uid_t> root = old.root();
  if (fixup && root) {
    const bool was_root = old.uid == root || old.euid == root || old.suid == root,
               is_root = changed.uid == root || changed.euid == root || changed.suid == root;
    if (was_root && !is_root) {
      if (!keeps) changed.permitted = 0;
      changed.ambient = 0;
    }
    if (old.euid == root && changed.euid != root) changed.effective = 0;
    if (old.euid != root && changed.euid == root) changed.effective = changed.permitted;
    changed.effective &= changed.permitted;
  }
  std::lock_guard guard(task.kernel.tasks);
  if (changed.euid != old.euid || changed.egid != old.egid || changed.fsuid != old.fsuid) task.group->dumpable = false;
  task.creds = std::make_shared<const Credentials>(std::move(changed));
}

constexpr unsigned kKeep = ~0U;
using Ids = UserNamespace::Ids;

// An id that the task gives, as the kernel counts; "no change" stays. EINVAL: its user namespace has no such id.
Result<unsigned> from_guest(const Task& task, Ids ids, unsigned id) {
  if (id == kKeep) return id;
  const std::optional<uint32_t> found = task.creds->user->to_kernel(ids, id);
  return found ? Result<unsigned>(*found) : Errno(EINVAL);
}
uid_t shown_user(const Task& task, uid_t uid) { return task.creds->user->shown(Ids::Users, uid); }
gid_t shown_group(const Task& task, gid_t gid) { return task.creds->user->shown(Ids::Groups, gid); }

Result<long> sys_getuid(Task& task) { return shown_user(task, task.creds->uid); }
Result<long> sys_geteuid(Task& task) { return shown_user(task, task.creds->euid); }
Result<long> sys_getgid(Task& task) { return shown_group(task, task.creds->gid); }
Result<long> sys_getegid(Task& task) { return shown_group(task, task.creds->egid); }

Result<long> sys_setuid(Task& task, unsigned uid) {
  if (uid == kKeep) return Errno(EINVAL);
  uid = TRY(from_guest(task, Ids::Users, uid));
  Credentials c = *task.creds;
  if (c.has_own(kCapSetuid))
    c.uid = c.suid = uid;
  else if (uid != c.uid && uid != c.suid)
    return Errno(EPERM);
  c.euid = c.fsuid = uid;
  commit(task, std::move(c));
  return 0L;
}

Result<long> sys_setgid(Task& task, unsigned gid) {
  if (gid == kKeep) return Errno(EINVAL);
  gid = TRY(from_guest(task, Ids::Groups, gid));
  Credentials c = *task.creds;
  if (c.has_own(kCapSetgid))
    c.gid = c.sgid = gid;
  else if (gid != c.gid && gid != c.sgid)
    return Errno(EPERM);
  c.egid = c.fsgid = gid;
  commit(task, std::move(c));
  return 0L;
}

Result<long> sys_setreuid(Task& task, unsigned ruid, unsigned euid) {
  ruid = TRY(from_guest(task, Ids::Users, ruid));
  euid = TRY(from_guest(task, Ids::Users, euid));
  Credentials c = *task.creds;
  const Credentials old = c;
  const bool may = c.has_own(kCapSetuid);
  if (ruid != kKeep && !may && ruid != old.uid && ruid != old.euid) return Errno(EPERM);
  if (euid != kKeep && !may && euid != old.uid && euid != old.euid && euid != old.suid) return Errno(EPERM);
  if (ruid != kKeep) c.uid = ruid;
  if (euid != kKeep) c.euid = euid;
  if (ruid != kKeep || (euid != kKeep && euid != old.uid)) c.suid = c.euid;
  c.fsuid = c.euid;
  commit(task, std::move(c));
  return 0L;
}

Result<long> sys_setregid(Task& task, unsigned rgid, unsigned egid) {
  rgid = TRY(from_guest(task, Ids::Groups, rgid));
  egid = TRY(from_guest(task, Ids::Groups, egid));
  Credentials c = *task.creds;
  const Credentials old = c;
  const bool may = c.has_own(kCapSetgid);
  if (rgid != kKeep && !may && rgid != old.gid && rgid != old.egid) return Errno(EPERM);
  if (egid != kKeep && !may && egid != old.gid && egid != old.egid && egid != old.sgid) return Errno(EPERM);
  if (rgid != kKeep) c.gid = rgid;
  if (egid != kKeep) c.egid = egid;
  if (rgid != kKeep || (egid != kKeep && egid != old.gid)) c.sgid = c.egid;
  c.fsgid = c.egid;
  commit(task, std::move(c));
  return 0L;
}

Result<long> sys_setresuid(Task& task, unsigned ruid, unsigned euid, unsigned suid) {
  for (unsigned* each : {&ruid, &euid, &suid}) *each = TRY(from_guest(task, Ids::Users, *each));
  Credentials c = *task.creds;
  const auto may = [&](unsigned id) { return id == kKeep || c.has_own(kCapSetuid) || id == c.uid || id == c.euid || id == c.suid; };
  if (!may(ruid) || !may(euid) || !may(suid)) return Errno(EPERM);
  if (ruid != kKeep) c.uid = ruid;
  if (euid != kKeep) c.euid = euid;
  if (suid != kKeep) c.suid = suid;
  c.fsuid = c.euid;
  commit(task, std::move(c));
  return 0L;
}

Result<long> sys_setresgid(Task& task, unsigned rgid, unsigned egid, unsigned sgid) {
  for (unsigned* each : {&rgid, &egid, &sgid}) *each = TRY(from_guest(task, Ids::Groups, *each));
  Credentials c = *task.creds;
  const auto may = [&](unsigned id) { return id == kKeep || c.has_own(kCapSetgid) || id == c.gid || id == c.egid || id == c.sgid; };
  if (!may(rgid) || !may(egid) || !may(sgid)) return Errno(EPERM);
  if (rgid != kKeep) c.gid = rgid;
  if (egid != kKeep) c.egid = egid;
  if (sgid != kKeep) c.sgid = sgid;
  c.fsgid = c.egid;
  commit(task, std::move(c));
  return 0L;
}

Result<long> sys_getresuid(Task& task, UserPtr<unsigned> r, UserPtr<unsigned> e, UserPtr<unsigned> s) {
  TRY(task.write(r, shown_user(task, task.creds->uid)));
  TRY(task.write(e, shown_user(task, task.creds->euid)));
  TRY(task.write(s, shown_user(task, task.creds->suid)));
  return 0L;
}

Result<long> sys_getresgid(Task& task, UserPtr<unsigned> r, UserPtr<unsigned> e, UserPtr<unsigned> s) {
  TRY(task.write(r, shown_group(task, task.creds->gid)));
  TRY(task.write(e, shown_group(task, task.creds->egid)));
  TRY(task.write(s, shown_group(task, task.creds->sgid)));
  return 0L;
}

Result<long> sys_setfsuid(Task& task, unsigned uid) {
  Credentials c = *task.creds;
  const uid_t old = c.fsuid;
  const Result<unsigned> wanted = from_guest(task, Ids::Users, uid);
  if (!wanted) return shown_user(task, old);
  uid = *wanted;
  if (uid == c.uid || uid == c.euid || uid == c.suid || uid == c.fsuid || c.has_own(kCapSetuid)) {
    if (uid != kKeep) c.fsuid = uid;
    commit(task, std::move(c));
  }
  return shown_user(task, old);
}

Result<long> sys_setfsgid(Task& task, unsigned gid) {
  Credentials c = *task.creds;
  const gid_t old = c.fsgid;
  const Result<unsigned> wanted = from_guest(task, Ids::Groups, gid);
  if (!wanted) return shown_group(task, old);
  gid = *wanted;
  if (gid == c.gid || gid == c.egid || gid == c.sgid || gid == c.fsgid || c.has_own(kCapSetgid)) {
    if (gid != kKeep) c.fsgid = gid;
    commit(task, std::move(c));
  }
  return shown_group(task, old);
}

Result<long> sys_getgroups(Task& task, int size, UserPtr<gid_t> to) {
  std::vector<gid_t> groups = task.creds->groups;
  for (gid_t& group : groups) group = shown_group(task, group);
  if (size < 0) return Errno(EINVAL);
  if (size == 0) return static_cast<long>(groups.size());
  if (static_cast<size_t>(size) < groups.size()) return Errno(EINVAL);
  TRY(task.write_bytes(to.address(), groups.data(), groups.size() * sizeof(gid_t)));
  return static_cast<long>(groups.size());
}

Result<long> sys_setgroups(Task& task, int size, UserPtr<gid_t> from) {
  if (size < 0 || size > 65536) return Errno(EINVAL);
  const UserNamespace& user = *task.creds->user;
  if (!task.creds->has_own(kCapSetgid) || !user.may_set_groups() || user.map(Ids::Groups).empty()) return Errno(EPERM);
  Credentials c = *task.creds;
  c.groups.resize(static_cast<size_t>(size));
  TRY(task.read_bytes(from.address(), c.groups.data(), c.groups.size() * sizeof(gid_t)));
  for (gid_t& group : c.groups) group = TRY(from_guest(task, Ids::Groups, group == kKeep ? kKeep - 1 : group));
  std::sort(c.groups.begin(), c.groups.end());
  commit(task, std::move(c));
  return 0L;
}

// How many 32-bit words a version has; 0: an unknown version, and the header gets the one that we prefer.
Result<int> capability_words(Task& task, UserPtr<__user_cap_header_struct> header, __user_cap_header_struct* value) {
  *value = TRY(task.read(header));
  switch (value->version) {
    case _LINUX_CAPABILITY_VERSION_1:
      return 1;
    case _LINUX_CAPABILITY_VERSION_2:
    case _LINUX_CAPABILITY_VERSION_3:
      return 2;
  }
  value->version = _LINUX_CAPABILITY_VERSION_3;
  TRY(task.write(header, *value));
  return 0;
}

Result<long> sys_capget(Task& task, UserPtr<__user_cap_header_struct> header, UserPtr<__user_cap_data_struct> data) {
  __user_cap_header_struct value;
  const int words = TRY(capability_words(task, header, &value));
  if (words == 0) return data ? Result<long>(Errno(EINVAL)) : Result<long>(0L);
  if (value.pid < 0) return Errno(EINVAL);
  CredentialsRef creds = task.creds;
  if (value.pid != 0 && value.pid != task.tid) {
    std::lock_guard guard(task.kernel.tasks);
    const auto found = task.group->pids->tasks.find(value.pid);
    if (found == task.group->pids->tasks.end()) return Errno(ESRCH);
    creds = found->second->creds;
  }
  if (!data) return 0L;
  for (int i = 0; i < words; ++i) {
    const __user_cap_data_struct word{static_cast<uint32_t>(creds->effective >> 32 * i), static_cast<uint32_t>(creds->permitted >> 32 * i),
                                      static_cast<uint32_t>(creds->inheritable >> 32 * i)};
    TRY(task.write(data + static_cast<uint64_t>(i), word));
  }
  return 0L;
}

Result<long> sys_capset(Task& task, UserPtr<__user_cap_header_struct> header, UserPtr<const __user_cap_data_struct> data) {
  __user_cap_header_struct value;
  const int words = TRY(capability_words(task, header, &value));
  if (words == 0) return Errno(EINVAL);
  if (value.pid != 0 && value.pid != task.tid) return Errno(EPERM);
  uint64_t effective = 0, permitted = 0, inheritable = 0;
  for (int i = 0; i < words; ++i) {
    const __user_cap_data_struct word = TRY(task.read(data + static_cast<uint64_t>(i)));
    effective |= static_cast<uint64_t>(word.effective) << 32 * i;
    permitted |= static_cast<uint64_t>(word.permitted) << 32 * i;
    inheritable |= static_cast<uint64_t>(word.inheritable) << 32 * i;
  }
  effective &= kAllCapabilities;
  permitted &= kAllCapabilities;
  inheritable &= kAllCapabilities;
  Credentials c = *task.creds;
  if ((permitted & ~c.permitted) != 0 || (effective & ~permitted) != 0) return Errno(EPERM);
  if (!c.has_own(kCapSetpcap) && (inheritable & ~(c.inheritable | c.permitted)) != 0) return Errno(EPERM);
  if ((inheritable & ~(c.inheritable | c.bounding)) != 0) return Errno(EPERM);
  c.effective = effective;
  c.permitted = permitted;
  c.inheritable = inheritable;
  c.ambient &= permitted & inheritable;
  std::lock_guard guard(task.kernel.tasks);
  task.creds = std::make_shared<const Credentials>(std::move(c));
  return 0L;
}

}  // namespace

std::span<const SyscallRow> identity_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(getuid, 102, Full, ""),    SYSCALL(getgid, 104, Full, ""),    SYSCALL(setuid, 105, Full, ""),
      SYSCALL(setgid, 106, Full, ""),    SYSCALL(geteuid, 107, Full, ""),   SYSCALL(getegid, 108, Full, ""),
      SYSCALL(setreuid, 113, Full, ""),  SYSCALL(setregid, 114, Full, ""),  SYSCALL(getgroups, 115, Full, ""),
      SYSCALL(setgroups, 116, Full, ""), SYSCALL(setresuid, 117, Full, ""), SYSCALL(getresuid, 118, Full, ""),
      SYSCALL(setresgid, 119, Full, ""), SYSCALL(getresgid, 120, Full, ""), SYSCALL(setfsuid, 122, Full, ""),
      SYSCALL(setfsgid, 123, Full, ""),  SYSCALL(capget, 125, Full, ""),    SYSCALL(capset, 126, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
