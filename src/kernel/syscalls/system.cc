// What concerns the machine as the guest sees it: names, limits, priorities.
#include <linux/reboot.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include <algorithm>
#include <functional>

#include "base/io_priority.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/signal/send.h"
#include "kernel/stub/layout.h"
#include "kernel/syscalls/families.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"
#include "kernel/task/stub_limits.h"

namespace caisson::kernel {
namespace {

// For programs that cannot take a version above 2.6 (UNAME26): 6.1 is called 2.6.61, as Linux does it.
std::string old_release() {
  const std::string_view release = kKernelRelease;
  unsigned minor = 0;
  sscanf(kKernelRelease, "%*u.%u", &minor);
  const size_t rest = release.find_first_not_of("0123456789.");
  return "2.6." + std::to_string(minor + 60) + std::string(release.substr(std::min(rest, release.size())));
}

Result<long> sys_uname(Task& task, UserPtr<utsname> to) {
  utsname names{};
  strcpy(names.sysname, "Linux");
  strncpy(names.nodename, task.spaces->uts->host().c_str(), sizeof names.nodename - 1);
  strcpy(names.release, (task.personality & UNAME26) != 0 ? old_release().c_str() : kKernelRelease);
  strcpy(names.version, kKernelVersion);
  strcpy(names.machine, (task.personality & PER_MASK) == PER_LINUX32 ? "i686" : "x86_64");
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

// fs.nr_open, its usual value: no process may have more descriptors, but who was given more.
constexpr rlim_t kMostFiles = 1048576;

Result<void> set_limit(Task& task, ThreadGroup& group, int resource, const rlimit& wanted) {
  if (wanted.rlim_cur > wanted.rlim_max) return Errno(EINVAL);
  pid_t host = -1;
  std::shared_ptr<AddressSpace> memory;
  {
    std::lock_guard tree(task.kernel.tasks);
    std::lock_guard guard(group.limits_lock);
    const rlim_t most = group.limits[resource].rlim_max;
    if (wanted.rlim_max > most && !task.creds->has(kCapSysResource)) return Errno(EPERM);
    if (resource == RLIMIT_NOFILE && wanted.rlim_max > std::max(most, kMostFiles)) return Errno(EPERM);
    group.limits[resource] = wanted;
    if (!group.tasks.empty() && group.tasks.front()->stub) {
      host = group.tasks.front()->stub->process()->pid();
      memory = group.tasks.front()->memory;
    }
  }
  if (host > 0) keep_limit(group.shared_from_this(), task.kernel, host, *memory, resource, wanted);
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

// Whose nice value it is: each thread has its own (setpriority(2), NOTES), but only that of a process's first one is told.
struct Niced {
  std::shared_ptr<ThreadGroup> group;
  pid_t host = -1;
  bool first = false;
  int nice = 0;
};
Result<Niced> find_niced(Task& task, int which, int who) {
  if (which < PRIO_PROCESS || which > PRIO_USER) return Errno(EINVAL);
  std::lock_guard guard(task.kernel.tasks);
  const Task* found = &task;
  if (which == PRIO_PROCESS && who != 0) {
    const auto at = task.group->pids->tasks.find(who);
    if (at == task.group->pids->tasks.end()) {
      const auto ended = task.group->pids->groups.find(who);
      if (ended == task.group->pids->groups.end()) return Errno(ESRCH);
      return Niced{ended->second, -1, true, ended->second->nice};
    }
    found = at->second;
  }
  return Niced{found->group, found->stub ? found->host_tid() : -1, which != PRIO_PROCESS || found == found->group->leader,
               found->group->nice};
}

Result<long> sys_getpriority(Task& task, int which, int who) { return 20L - TRY(find_niced(task, which, who)).nice; }
Result<long> sys_setpriority(Task& task, int which, int who, int nice) {
  nice = std::clamp(nice, -20, 19);
  const Niced niced = TRY(find_niced(task, which, who));
  if (nice < niced.nice && !task.creds->has(kCapSysNice)) return Errno(EACCES);
  if (niced.first) {
    std::lock_guard guard(task.kernel.tasks);
    niced.group->nice = nice;
  }
  if (niced.host > 0) (void)setpriority(PRIO_PROCESS, static_cast<id_t>(niced.host), nice);
  return 0L;
}

// What changes the memory of programs in ways that stubs do not offer is refused; the other flags change nothing for 64-bit programs.
Result<long> sys_personality(Task& task, unsigned persona) {
  constexpr unsigned kRefused = READ_IMPLIES_EXEC | MMAP_PAGE_ZERO | ADDR_LIMIT_32BIT | ADDR_LIMIT_3GB;
  const uint32_t old = task.personality;
  if (persona == 0xffffffff) return static_cast<long>(old);
  if ((persona & kRefused) != 0) return Errno(EINVAL);
  if ((persona & PER_MASK) != PER_LINUX && (persona & PER_MASK) != PER_LINUX32) return Errno(EINVAL);
  task.personality = persona;
  return static_cast<long>(old);
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

// Of a PID namespace, which ends as if its first process had been sent a signal (pid_namespaces(7)); nobody here is the node's.
Result<long> sys_reboot(Task& task, int magic, int magic2, unsigned command, UserPtr<void>) {
  constexpr int kCapSysBoot = 22;
  constexpr int kMagics[] = {LINUX_REBOOT_MAGIC2, LINUX_REBOOT_MAGIC2A, LINUX_REBOOT_MAGIC2B, LINUX_REBOOT_MAGIC2C};
  if (!task.creds->has_in(*task.group->pids->owner, kCapSysBoot)) return Errno(EPERM);
  if (magic != static_cast<int>(LINUX_REBOOT_MAGIC1) || std::ranges::find(kMagics, magic2) == std::end(kMagics)) return Errno(EINVAL);
  int signal = 0;
  if (command == LINUX_REBOOT_CMD_RESTART || command == LINUX_REBOOT_CMD_RESTART2) signal = SIGHUP;
  if (command == LINUX_REBOOT_CMD_POWER_OFF || command == LINUX_REBOOT_CMD_HALT) signal = SIGINT;
  if (signal == 0) return Errno(EINVAL);
  std::lock_guard guard(task.kernel.tasks);
  if (const auto init = task.group->pids->init.lock()) end_group_locked(*init, CLD_KILLED, signal);
  end_group_locked(*task.group, CLD_EXITED, 0);
  return 0L;
}
// What changes the node itself, whoever asks: the answer that Linux gives who lacks the capability.
Result<long> sys_acct(Task&, UserPtr<const char>) { return Errno(EPERM); }
Result<long> sys_swapon(Task&, UserPtr<const char>, int) { return Errno(EPERM); }
Result<long> sys_swapoff(Task&, UserPtr<const char>) { return Errno(EPERM); }
Result<long> sys_init_module(Task&, UserPtr<const void>, unsigned long, UserPtr<const char>) { return Errno(EPERM); }
Result<long> sys_delete_module(Task&, UserPtr<const char>, unsigned) { return Errno(EPERM); }
Result<long> sys_finit_module(Task&, Fd, UserPtr<const char>, int) { return Errno(EPERM); }
Result<long> sys_kexec_load(Task&, unsigned long, unsigned long, UserPtr<const void>, unsigned long) { return Errno(EPERM); }
Result<long> sys_kexec_file_load(Task&, Fd, Fd, unsigned long, UserPtr<const char>, unsigned long) { return Errno(EPERM); }
Result<long> sys_open_by_handle_at(Task&, Fd, UserPtr<const void>, int) { return Errno(EPERM); }

Result<void> check_io_priority(const Task& task, int priority) {
  const int level = IOPRIO_PRIO_DATA(priority) & 7;
  switch (priority >> IOPRIO_CLASS_SHIFT) {
    case IOPRIO_CLASS_RT:
      if (!task.creds->has(kCapSysAdmin) && !task.creds->has(kCapSysNice)) return Errno(EPERM);
      return {};
    case IOPRIO_CLASS_BE:
    case IOPRIO_CLASS_IDLE:
      return {};
    case IOPRIO_CLASS_NONE:
      return level == 0 ? Result<void>() : Result<void>(Errno(EINVAL));
    default:
      return Errno(EINVAL);
  }
}

// The threads that the call is about: one thread, a process group's, a user's. ESRCH: none.
Result<void> for_each_of(Task& task, int which, int who, const std::function<Result<void>(Task&)>& body) {
  if (which < IOPRIO_WHO_PROCESS || which > IOPRIO_WHO_USER) return Errno(EINVAL);
  std::lock_guard guard(task.kernel.tasks);
  const PidNamespace& pids = *task.group->pids;
  const uid_t user =
      who == 0 ? task.creds->uid : task.creds->user->to_kernel(UserNamespace::Ids::Users, static_cast<uint32_t>(who)).value_or(UINT32_MAX);
  const pid_t group = who == 0 ? number_in(task.group->pgid, pids) : who;
  bool any = false;
  for (const auto& [tid, each] : pids.tasks) {
    if (which == IOPRIO_WHO_PROCESS && tid != (who == 0 ? task.tid : who)) continue;
    if (which == IOPRIO_WHO_PGRP && number_in(each->group->pgid, pids) != group) continue;
    if (which == IOPRIO_WHO_USER && each->creds->uid != user) continue;
    any = true;
    TRY(body(*each));
  }
  return any ? Result<void>() : Result<void>(Errno(ESRCH));
}

Result<long> sys_ioprio_set(Task& task, int which, int who, int priority) {
  TRY(check_io_priority(task, priority));
  TRY(for_each_of(task, which, who, [&](Task& each) -> Result<void> {
    const Credentials &ours = *task.creds, &theirs = *each.creds;
    if (theirs.uid != ours.euid && theirs.uid != ours.uid && !ours.has(kCapSysNice)) return Errno(EPERM);
    each.scheduling.io_priority = priority;
    if (each.stub) set_host_io_priority(each.host_tid(), priority);
    return {};
  }));
  return 0L;
}

// Of several the best one. What was never set goes by the nice value, and is told as none.
Result<long> sys_ioprio_get(Task& task, int which, int who) {
  std::optional<int> best;
  TRY(for_each_of(task, which, who, [&](Task& each) -> Result<void> {
    const int found = each.scheduling.io_priority;
    const auto rank = [](int priority) {
      return IOPRIO_PRIO_CLASS(priority) == IOPRIO_CLASS_NONE ? IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 4) : priority;
    };
    if (!best || rank(found) < rank(*best)) best = found;
    return {};
  }));
  return static_cast<long>(*best);
}

}  // namespace

std::span<const SyscallRow> system_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(uname, 63, Full, ""),
      SYSCALL(getrlimit, 97, Full, ""),
      SYSCALL(syslog, 103, Partial, "there is no kernel log"),
      SYSCALL(personality, 135, Partial, "PER_LINUX and PER_LINUX32; no READ_IMPLIES_EXEC, MMAP_PAGE_ZERO, ADDR_LIMIT_*"),
      SYSCALL(getpriority, 140, Partial, "groups and users: the caller's own value"),
      SYSCALL(setpriority, 141, Partial, "groups and users: the caller only"),
      SYSCALL(vhangup, 153, Partial, "EPERM"),
      SYSCALL(arch_prctl, 158, Partial, "FS and GS base only"),
      SYSCALL(setrlimit, 160, Full, ""),
      SYSCALL(reboot, 169, Full, ""),
      SYSCALL(acct, 163, Partial, "EPERM"),
      SYSCALL(swapon, 167, Partial, "EPERM"),
      SYSCALL(swapoff, 168, Partial, "EPERM"),
      SYSCALL(init_module, 175, Partial, "EPERM"),
      SYSCALL(delete_module, 176, Partial, "EPERM"),
      SYSCALL(finit_module, 313, Partial, "EPERM"),
      SYSCALL(kexec_load, 246, Partial, "EPERM"),
      SYSCALL(kexec_file_load, 320, Partial, "EPERM"),
      SYSCALL(open_by_handle_at, 304, Partial, "EPERM"),
      SYSCALL(sethostname, 170, Full, ""),
      SYSCALL(setdomainname, 171, Full, ""),
      SYSCALL(ioprio_set, 251, Full, ""),
      SYSCALL(ioprio_get, 252, Full, ""),
      SYSCALL(prlimit64, 302, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
