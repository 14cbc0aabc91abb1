// What concerns the machine as the guest sees it: names, limits, priorities.
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include <algorithm>

#include "kernel/platform/stub_thread.h"
#include "kernel/stub/layout.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

Result<long> sys_uname(Task& task, UserPtr<utsname> to) {
  utsname names{};
  strcpy(names.sysname, "Linux");
  strncpy(names.nodename, task.spaces->uts->host().c_str(), sizeof names.nodename - 1);
  strcpy(names.release, kKernelRelease);
  strcpy(names.version, kKernelVersion);
  strcpy(names.machine, "x86_64");
  strncpy(names.domainname, task.spaces->uts->domain().c_str(), sizeof names.domainname - 1);
  TRY(task.write(to, names));
  return 0L;
}

Result<std::string> read_name(Task& task, UserPtr<const char> from, int length) {
  if (length < 0 || length > 64) return Errno(EINVAL);
  if (!task.creds->has_in(*task.spaces->uts->owner, kCapSysAdmin)) return Errno(EPERM);
  std::string name(static_cast<size_t>(length), '\0');
  TRY(task.read_bytes(from.address(), name.data(), name.size()));
  name.resize(strnlen(name.c_str(), name.size()));
  return name;
}
Result<long> sys_sethostname(Task& task, UserPtr<const char> from, int length) {
  task.spaces->uts->set_host(TRY(read_name(task, from, length)));
  return 0L;
}
Result<long> sys_setdomainname(Task& task, UserPtr<const char> from, int length) {
  task.spaces->uts->set_domain(TRY(read_name(task, from, length)));
  return 0L;
}

// Limits that the host applies to the stub itself.
bool is_the_stubs(int resource) {
  return resource == RLIMIT_AS || resource == RLIMIT_DATA || resource == RLIMIT_CPU || resource == RLIMIT_MEMLOCK;
}

Result<void> set_limit(Task& task, ThreadGroup& group, int resource, const rlimit& wanted) {
  if (wanted.rlim_cur > wanted.rlim_max) return Errno(EINVAL);
  pid_t host = -1;
  {
    std::lock_guard tree(task.kernel.tasks);
    std::lock_guard guard(group.limits_lock);
    if (wanted.rlim_max > group.limits[resource].rlim_max && !task.creds->has(kCapSysResource)) return Errno(EPERM);
    group.limits[resource] = wanted;
    if (!group.tasks.empty() && group.tasks.front()->stub) host = group.tasks.front()->stub->process()->pid();
  }
  if (host > 0 && is_the_stubs(resource) && resource != RLIMIT_DATA)
    (void)prlimit(host, static_cast<__rlimit_resource>(resource), &wanted, nullptr);
  return {};
}

Result<std::shared_ptr<ThreadGroup>> find_group(Task& task, int pid, bool own_ids_only) {
  if (pid == 0 || pid == task.group->pid) return task.group;
  std::lock_guard guard(task.kernel.tasks);
  const auto found = task.group->pids->groups.find(pid);
  if (found == task.group->pids->groups.end()) return Errno(ESRCH);
  if (own_ids_only && !found->second->tasks.empty() && !task.creds->has(kCapSysResource)) {
    const Credentials& theirs = *found->second->tasks.front()->creds;
    if (theirs.uid != task.creds->uid || theirs.euid != task.creds->uid || theirs.suid != task.creds->uid) return Errno(EPERM);
  }
  return found->second;
}

Result<long> sys_prlimit64(Task& task, int pid, int resource, UserPtr<const rlimit> from, UserPtr<rlimit> to) {
  if (resource < 0 || resource >= RLIM_NLIMITS) return Errno(EINVAL);
  const std::shared_ptr<ThreadGroup> group = TRY(find_group(task, pid, true));
  const rlimit before = group->limit(resource);
  if (from) TRY(set_limit(task, *group, resource, TRY(task.read(from))));
  if (to) TRY(task.write(to, before));
  return 0L;
}
Result<long> sys_getrlimit(Task& task, int resource, UserPtr<rlimit> to) {
  return sys_prlimit64(task, 0, resource, UserPtr<const rlimit>(), to);
}
Result<long> sys_setrlimit(Task& task, int resource, UserPtr<const rlimit> from) {
  if (!from) return Errno(EFAULT);
  return sys_prlimit64(task, 0, resource, from, UserPtr<rlimit>());
}

Result<long> sys_getpriority(Task& task, int which, int who) {
  if (which < PRIO_PROCESS || which > PRIO_USER) return Errno(EINVAL);
  if (which != PRIO_PROCESS) return 20L - task.group->nice;
  return 20L - TRY(find_group(task, who, false))->nice;
}
Result<long> sys_setpriority(Task& task, int which, int who, int nice) {
  if (which < PRIO_PROCESS || which > PRIO_USER) return Errno(EINVAL);
  nice = std::clamp(nice, -20, 19);
  const std::shared_ptr<ThreadGroup> group = which == PRIO_PROCESS ? TRY(find_group(task, who, false)) : task.group;
  if (nice < group->nice && !task.creds->has(kCapSysNice)) return Errno(EACCES);
  pid_t host = -1;
  {
    std::lock_guard guard(task.kernel.tasks);
    group->nice = nice;
    if (!group->tasks.empty() && group->tasks.front()->stub) host = group->tasks.front()->stub->process()->pid();
  }
  if (host > 0) (void)setpriority(PRIO_PROCESS, static_cast<id_t>(host), nice);
  return 0L;
}

Result<long> sys_personality(Task&, unsigned long persona) {
  if (persona != 0xffffffff && persona != 0) return Errno(EINVAL);
  return 0L;
}

// A sandbox has no log of a kernel to read.
Result<long> sys_syslog(Task&, int type, UserPtr<char>, int) {
  if (type == 10 || type == 9) return 0L;
  return Errno(EPERM);
}

// CPUID faulting, shadow stacks and AMX are not offered. FS is native, but for guests whose own calls all trap. GS is ours (kernel/patch)
// as long as the guest does not set it.
Result<long> sys_arch_prctl(Task& task, int code, unsigned long value) {
  constexpr int kGetGs = 0x1004;
  if (code < 0x1001 || code > kGetGs) return Errno(EINVAL);
  if (code == kGetGs) {
    TRY(task.stub->run_one({SYS_arch_prctl, {kGetGs, value}}));
    const uint64_t base = TRY(task.read(UserPtr<uint64_t>(value)));
    if (base >= STUB_WINDOW && base < STUB_WINDOW_END) TRY(task.write(UserPtr<uint64_t>(value), uint64_t{0}));
    return 0L;
  }
  return static_cast<long>(TRY(task.stub->run_one({SYS_arch_prctl, {static_cast<uint64_t>(code), value}})));
}

Result<long> sys_vhangup(Task&) { return Errno(EPERM); }
Result<long> sys_reboot(Task&, int, int, int, UserPtr<void>) { return Errno(EPERM); }
Result<long> sys_ioprio_set(Task&, int, int, int) { return 0L; }
Result<long> sys_ioprio_get(Task&, int, int) { return 4L << 13 | 4; }

}  // namespace

std::span<const SyscallRow> system_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(uname, 63, Full, ""),
      SYSCALL(getrlimit, 97, Full, ""),
      SYSCALL(syslog, 103, Partial, "there is no kernel log"),
      SYSCALL(personality, 135, Partial, "only PER_LINUX without flags"),
      SYSCALL(getpriority, 140, Partial, "groups and users: the caller's own value"),
      SYSCALL(setpriority, 141, Partial, "groups and users: the caller only"),
      SYSCALL(vhangup, 153, Partial, "EPERM"),
      SYSCALL(arch_prctl, 158, Partial, "FS and GS base only"),
      SYSCALL(setrlimit, 160, Full, ""),
      SYSCALL(reboot, 169, Partial, "EPERM"),
      SYSCALL(sethostname, 170, Full, ""),
      SYSCALL(setdomainname, 171, Full, ""),
      SYSCALL(ioprio_set, 251, Partial, "does nothing"),
      SYSCALL(ioprio_get, 252, Partial, "says best effort"),
      SYSCALL(prlimit64, 302, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
