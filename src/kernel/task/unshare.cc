#include "kernel/task/unshare.h"

#include <sched.h>

#include <algorithm>

#include "kernel/net/network_namespace.h"
#include "kernel/task/kernel.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kNewTime = 0x80;  // CLONE_NEWTIME: within CSIGNAL, so that only unshare and clone3 can say it

// Everything that is allowed in a user namespace to who has made or entered it.
CredentialsRef with_user(const Credentials& old, std::shared_ptr<UserNamespace> user) {
  auto creds = std::make_shared<Credentials>(old);
  creds->permitted = creds->effective = creds->bounding = kAllCapabilities;
  creds->inheritable = creds->ambient = 0;
  creds->secure_bits = 0;
  creds->user = std::move(user);
  return creds;
}

Result<CredentialsRef> new_user_namespace(Task& task) {
  const Credentials& old = *task.creds;
  // In a changed root one could reach what lies outside of it (CVE-2013-1956).
  if (!(task.fs->root() == root_of(*task.spaces->mounts))) return Errno(EPERM);
  using Ids = UserNamespace::Ids;
  if (!old.user->from_kernel(Ids::Users, old.euid) || !old.user->from_kernel(Ids::Groups, old.egid)) return Errno(EPERM);
  return with_user(old, TRY(UserNamespace::create(old.user, old.euid, old.egid)));
}

Result<std::shared_ptr<MountTable>> new_mounts(Task& task, const Credentials& creds, std::shared_ptr<FsContext>* fs) {
  *fs = task.fs->copy();
  Path root = (*fs)->root(), cwd = (*fs)->cwd();
  const auto mounts = TRY(task.spaces->mounts->copy(creds.user, {&root, &cwd}));
  (*fs)->set_root(std::move(root));
  (*fs)->set_cwd(std::move(cwd));
  return mounts;
}

bool is_alone(Task& task) {
  std::lock_guard guard(task.kernel.tasks);
  return task.group->tasks.size() == 1;
}

// Whether other tasks have the task's table of descriptors, or its folders, too. Who looks at them for a moment (/proc) does not count.
template <typename Part>
bool is_shared(Task& task, std::shared_ptr<Part> Task::*part) {
  if ((task.*part).use_count() <= 1) return false;
  const Container* container = task.group->container;
  std::lock_guard guard(task.kernel.tasks);
  const auto& all = (container != nullptr ? container->pids : task.group->pids)->tasks;
  return std::ranges::any_of(all, [&](const auto& each) { return each.second != &task && each.second->*part == task.*part; });
}

}  // namespace

const uint64_t kNamespaceFlags =
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | kNewTime;

Path root_of(MountTable& mounts) {
  Path root;
  for (const MountRef& mount : mounts.all()) {
    if (mount->point()) continue;
    root = {mount, mount->root};
    break;
  }
  while (root)
    if (const MountRef above = MountTable::at(root))
      root = {above, above->root};
    else
      break;
  return root;
}

NamespaceRef namespace_of(const Task& task, NamespaceKind kind, bool for_children) {
  switch (kind) {
    case NamespaceKind::Mount:
      return task.spaces->mounts;
    case NamespaceKind::Uts:
      return task.spaces->uts;
    case NamespaceKind::Ipc:
      return task.spaces->ipc;
    case NamespaceKind::Pid:
      return for_children ? task.spaces->pids_for_children : task.group->pids;
    case NamespaceKind::User:
      return task.creds->user;
    case NamespaceKind::Network:
      return task.spaces->network;
    case NamespaceKind::Cgroup:
      return task.spaces->cgroup;
    case NamespaceKind::Time:
      break;
  }
  return task.spaces->time;
}

Result<ChangedNamespaces> make_namespaces(Task& task, uint64_t flags) {
  ChangedNamespaces made{task.spaces, task.creds, nullptr};
  if ((flags & kNamespaceFlags) == 0) return made;
  if ((flags & CLONE_NEWUSER) != 0) made.creds = TRY(new_user_namespace(task));
  const std::shared_ptr<UserNamespace>& user = made.creds->user;
  const uint64_t others = flags & kNamespaceFlags & ~static_cast<uint64_t>(CLONE_NEWUSER);
  if (others == 0) return made;
  if (!made.creds->has_own(kCapSysAdmin)) return Errno(EPERM);
  if ((others & kNewTime) != 0) return Errno(EINVAL);
  auto spaces = std::make_shared<Namespaces>(*task.spaces);
  if ((others & CLONE_NEWUTS) != 0) {
    TRY(may_make_namespace(NamespaceKind::Uts));
    spaces->uts = task.spaces->uts->copy(user);
  }
  if ((others & CLONE_NEWIPC) != 0) {
    TRY(may_make_namespace(NamespaceKind::Ipc));
    spaces->ipc = std::make_shared<IpcNamespace>(user);
  }
  if ((others & CLONE_NEWCGROUP) != 0) {
    TRY(may_make_namespace(NamespaceKind::Cgroup));
    CgroupRef root;
    {
      std::lock_guard guard(task.kernel.tasks);
      root = task.group->cgroup;
    }
    spaces->cgroup = std::make_shared<CgroupNamespace>(std::move(root), user);
  }
  if ((others & CLONE_NEWPID) != 0) {
    if (task.spaces->pids_for_children != task.group->pids) return Errno(EINVAL);
    spaces->pids_for_children = TRY(PidNamespace::create(task.group->pids, user));
  }
  if ((others & CLONE_NEWNS) != 0) spaces->mounts = TRY(new_mounts(task, *made.creds, &made.fs));
  // The last: it takes longest.
  if ((others & CLONE_NEWNET) != 0) spaces->network = TRY(NetworkNamespace::create(user));
  made.spaces = std::move(spaces);
  return made;
}

namespace {

// Old objects are dropped outside the lock.
void take_on(Task& task, ChangedNamespaces changed) {
  std::lock_guard guard(task.kernel.tasks);
  std::swap(task.spaces, changed.spaces);
  std::swap(task.creds, changed.creds);
  if (changed.fs) std::swap(task.fs, changed.fs);
}

}  // namespace

void unshare_descriptors(Task& task) {
  if (!is_shared(task, &Task::fds)) return;
  std::shared_ptr<FdTable> own = task.fds->copy();  // and then the old one, which is dropped without the lock
  std::lock_guard guard(task.kernel.tasks);
  task.fds.swap(own);
}

Result<void> unshare(Task& task, uint64_t flags) {
  constexpr uint64_t kOthers = CLONE_THREAD | CLONE_FS | CLONE_SIGHAND | CLONE_VM | CLONE_FILES | CLONE_SYSVSEM;
  if ((flags & ~(kOthers | kNamespaceFlags)) != 0) return Errno(EINVAL);
  if ((flags & CLONE_NEWUSER) != 0) flags |= CLONE_THREAD | CLONE_FS;
  if ((flags & CLONE_NEWNS) != 0) flags |= CLONE_FS;
  if ((flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)) != 0 && !is_alone(task)) return Errno(EINVAL);
  ChangedNamespaces changed = TRY(make_namespaces(task, flags));
  if ((flags & CLONE_FS) != 0 && !changed.fs && is_shared(task, &Task::fs)) changed.fs = task.fs->copy();
  if ((flags & CLONE_FILES) != 0) unshare_descriptors(task);
  take_on(task, std::move(changed));
  return {};
}

namespace {

// One namespace more in what the task is to become.
Result<void> enter(Task& task, const NamespaceRef& space, ChangedNamespaces& to, Namespaces& spaces) {
  const Credentials& creds = *to.creds;
  if (space->kind == NamespaceKind::User) {
    const auto user = std::static_pointer_cast<UserNamespace>(space);
    if (user == task.creds->user || !is_alone(task) || is_shared(task, &Task::fs)) return Errno(EINVAL);
    if (!creds.has_in(*user, kCapSysAdmin)) return Errno(EPERM);
    to.creds = with_user(creds, user);
    return {};
  }
  if (!creds.has_in(*space->owner, kCapSysAdmin) || !creds.has_own(kCapSysAdmin)) return Errno(EPERM);
  switch (space->kind) {
    case NamespaceKind::Uts:
      spaces.uts = std::static_pointer_cast<UtsNamespace>(space);
      return {};
    case NamespaceKind::Ipc:
      spaces.ipc = std::static_pointer_cast<IpcNamespace>(space);
      return {};
    case NamespaceKind::Network:
      spaces.network = std::static_pointer_cast<NetworkNamespace>(space);
      return {};
    case NamespaceKind::Cgroup:
      spaces.cgroup = std::static_pointer_cast<CgroupNamespace>(space);
      return {};
    case NamespaceKind::Time:
      return is_alone(task) ? Result<void>() : Errno(EUSERS);
    case NamespaceKind::Pid: {
      const auto pids = std::static_pointer_cast<PidNamespace>(space);
      if (!pids->is_within(*task.group->pids)) return Errno(EINVAL);
      spaces.pids_for_children = pids;
      return {};
    }
    case NamespaceKind::Mount: {
      if (!creds.has_own(kCapSysChroot)) return Errno(EPERM);
      if (is_shared(task, &Task::fs)) return Errno(EINVAL);
      spaces.mounts = std::static_pointer_cast<MountTable>(space);
      const Path root = root_of(*spaces.mounts);
      if (!root) return Errno(EINVAL);
      to.fs = task.fs->copy();
      to.fs->set_root(root);
      to.fs->set_cwd(root);
      return {};
    }
    case NamespaceKind::User:
      break;
  }
  return Errno(EINVAL);
}

Result<void> enter_all(Task& task, const std::vector<NamespaceRef>& wanted) {
  ChangedNamespaces to{nullptr, task.creds, nullptr};
  auto spaces = std::make_shared<Namespaces>(*task.spaces);
  for (const NamespaceRef& each : wanted) TRY(enter(task, each, to, *spaces));
  to.spaces = std::move(spaces);
  take_on(task, std::move(to));
  return {};
}

}  // namespace

Result<void> enter_namespace(Task& task, const NamespaceRef& space) { return enter_all(task, {space}); }

Result<void> enter_namespaces_of(Task& task, ThreadGroup& group, uint64_t flags) {
  if (flags == 0 || (flags & ~kNamespaceFlags) != 0) return Errno(EINVAL);
  std::vector<NamespaceRef> wanted;
  {
    std::lock_guard guard(task.kernel.tasks);
    const Task* other = group.leader != nullptr ? group.leader : group.tasks.empty() ? nullptr : group.tasks.front();
    if (other == nullptr || !other->spaces) return Errno(ESRCH);
    const Credentials &ours = *task.creds, &theirs = *other->creds;
    const bool same = ours.fsuid == theirs.euid && ours.fsuid == theirs.suid && ours.fsuid == theirs.uid && ours.fsgid == theirs.egid &&
                      ours.fsgid == theirs.sgid && ours.fsgid == theirs.gid && group.dumpable;
    if (&group != task.group.get() && !same && !ours.has_in(*theirs.user, kCapSysPtrace)) return Errno(EPERM);
    // The user namespace first: what it gives counts for the others.
    for (const NamespaceKind kind : {NamespaceKind::User, NamespaceKind::Mount, NamespaceKind::Uts, NamespaceKind::Ipc, NamespaceKind::Pid,
                                     NamespaceKind::Cgroup, NamespaceKind::Network, NamespaceKind::Time})
      if ((flags & namespace_flag(kind)) != 0) wanted.push_back(namespace_of(*other, kind));
  }
  return enter_all(task, wanted);
}

}  // namespace caisson::kernel
