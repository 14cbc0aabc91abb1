// Scheduling, random numbers, the machine's figures, memfd.
#include <linux/random.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>

#include <algorithm>

#include "kernel/fs/host/host_file.h"
#include "kernel/limits.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/task/kernel.h"
#include "kernel/time/clock.h"
#include "kernel/vfs/anonymous.h"

namespace caisson::kernel {
namespace {

constexpr size_t kMostCpus = 8192;

Result<long> sys_getrandom(Task& task, UserPtr<void> to, uint64_t size, unsigned flags) {
  if ((flags & ~(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE)) != 0) return Errno(EINVAL);
  if ((flags & (GRND_RANDOM | GRND_INSECURE)) == (GRND_RANDOM | GRND_INSECURE)) return Errno(EINVAL);
  IoBuffer buffer = task.buffer(to.address(), size);
  size_t done = 0;
  char bytes[4096];
  while (!buffer.empty()) {
    const ssize_t got = ::getrandom(bytes, std::min(buffer.left(), sizeof bytes), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return host_errno();
    const Result<size_t> put = buffer.put(bytes, static_cast<size_t>(got));
    if (!put && done == 0) return put.error();
    if (!put) break;
    done += *put;
    if (*put < static_cast<size_t>(got) || task.interrupted()) break;
  }
  return static_cast<long>(done);
}

Result<long> sys_sysinfo(Task& task, UserPtr<struct sysinfo> to) {
  struct sysinfo info {};
  TRY(host_result(::sysinfo(&info)));
  {
    std::lock_guard guard(task.kernel.tasks);
    info.procs = static_cast<unsigned short>(std::min<size_t>(task.group->pids->tasks.size(), 65535));
  }
  if (const CgroupLimits limits = cgroup_limits(); limits_memory(limits)) {
    const auto in_units = [&](int64_t bytes) {
      return static_cast<unsigned long>(std::max<int64_t>(bytes, 0)) / std::max(info.mem_unit, 1U);
    };
    info.totalram = in_units(limits.memory);
    info.freeram = in_units(static_cast<int64_t>(memory_left(task, limits.memory)));
    info.sharedram = info.bufferram = info.totalhigh = info.freehigh = 0;
    info.totalswap = info.freeswap = in_units(limits.swap);
  }
  TRY(task.write(to, info));
  return 0L;
}

// The host thread of a task of the caller's PID namespace; 0 is the caller. ESRCH.
Result<pid_t> host_thread_of(Task& task, pid_t tid, bool* own_process) {
  std::lock_guard guard(task.kernel.tasks);
  if (tid == 0) tid = task.tid;
  auto found = task.group->pids->tasks.find(tid);
  if (found == task.group->pids->tasks.end() || !found->second->stub) return Errno(ESRCH);
  const Credentials& theirs = *found->second->creds;
  *own_process = found->second->group == task.group || task.creds->euid == theirs.euid || task.creds->euid == theirs.uid ||
                 task.creds->has(kCapSysNice);
  found->second->stub->settle();  // what is asked for or set is the guest's, not what the handoff has chosen
  return found->second->host_tid();
}

Result<long> sys_sched_getaffinity(Task& task, pid_t tid, unsigned size, UserPtr<void> to) {
  bool own = false;
  const pid_t host = TRY(host_thread_of(task, tid, &own));
  if (size % sizeof(long) != 0) return Errno(EINVAL);
  char mask[kMostCpus / 8] = {};
  const long bytes = TRY(host_result(syscall(SYS_sched_getaffinity, host, sizeof mask, mask)));
  // As Linux: the size of its own mask, which must fit.
  if (static_cast<long>(size) < bytes) return Errno(EINVAL);
  // No more than the quota is worth: programs make a thread for each.
  const std::vector<int> visible = visible_of(cpus_of_mask(mask, static_cast<size_t>(bytes)));
  memset(mask, 0, sizeof mask);
  for (const int cpu : visible) mask[cpu / 8] |= static_cast<char>(1 << cpu % 8);
  TRY(task.write_bytes(to.address(), mask, static_cast<size_t>(bytes)));
  return bytes;
}

Result<long> sys_sched_setaffinity(Task& task, pid_t tid, unsigned size, UserPtr<const void> from) {
  bool own = false;
  char mask[kMostCpus / 8] = {};
  TRY(task.read_bytes(from.address(), mask, std::min<size_t>(size, sizeof mask)));
  const pid_t host = TRY(host_thread_of(task, tid, &own));
  if (!own) return Errno(EPERM);
  // The thread may end just now: whatever has its number then is a stub's thread too.
  TRY(host_result(syscall(SYS_sched_setaffinity, host, sizeof mask, mask)));
  return 0L;
}

struct SchedParam {
  int priority;
};

// The policies that a guest can choose: the host's wall lets nothing real-time through.
Result<void> check_policy(int policy, int priority) {
  switch (policy) {
    case SCHED_OTHER:
    case SCHED_BATCH:
    case SCHED_IDLE:
      return priority == 0 ? Result<void>() : Result<void>(Errno(EINVAL));
    case SCHED_FIFO:
    case SCHED_RR:
      return priority >= 1 && priority <= 99 ? Errno(EPERM) : Errno(EINVAL);
    default:
      return Errno(EINVAL);
  }
}

// The thread of that number of the caller's PID namespace, 0 being the caller; under Kernel::tasks. ESRCH, EINVAL.
Result<Task*> scheduled_locked(Task& task, pid_t tid) {
  if (tid < 0) return Errno(EINVAL);
  if (tid == 0) return &task;
  const auto found = task.group->pids->tasks.find(tid);
  if (found == task.group->pids->tasks.end() || !found->second->creds) return Errno(ESRCH);
  return found->second;
}

Result<Scheduling> scheduling_of(Task& task, pid_t tid, int* nice = nullptr) {
  std::lock_guard guard(task.kernel.tasks);
  const Task* found = TRY(scheduled_locked(task, tid));
  if (nice != nullptr) *nice = found->group->nice;
  return found->scheduling;
}

// policy: less than 0: as it is. nice: of the process, or none to leave it.
Result<long> set_scheduling(Task& task, pid_t tid, int policy, int priority, bool reset_on_fork, std::optional<int> nice) {
  std::lock_guard guard(task.kernel.tasks);
  Task* found = TRY(scheduled_locked(task, tid));
  if (policy < 0) policy = found->scheduling.policy;
  if (policy != found->scheduling.policy || priority != found->scheduling.priority) TRY(check_policy(policy, priority));
  const Credentials& theirs = *found->creds;
  const bool may = task.creds->has(kCapSysNice);
  if (!may && task.creds->euid != theirs.euid && task.creds->euid != theirs.uid) return Errno(EPERM);
  // To give up a handicap takes the right to be better than others.
  if (!may && found->scheduling.policy == SCHED_IDLE && policy != SCHED_IDLE) return Errno(EPERM);
  if (!may && found->scheduling.reset_on_fork && !reset_on_fork) return Errno(EPERM);
  if (!may && nice && *nice < found->group->nice) return Errno(EPERM);
  found->scheduling.policy = policy;
  found->scheduling.priority = priority;
  found->scheduling.reset_on_fork = reset_on_fork;
  if (nice) found->group->nice = *nice;
  if (!found->stub) return 0L;
  set_host_scheduling(found->host_tid(), found->scheduling);
  if (nice) (void)setpriority(PRIO_PROCESS, static_cast<id_t>(found->host_tid()), *nice);
  return 0L;
}

Result<long> sys_sched_setparam(Task& task, pid_t tid, UserPtr<const SchedParam> from) {
  if (!from || tid < 0) return Errno(EINVAL);
  const SchedParam wanted = TRY(task.read(from));
  const Scheduling before = TRY(scheduling_of(task, tid));
  return set_scheduling(task, tid, -1, wanted.priority, before.reset_on_fork, std::nullopt);
}

Result<long> sys_sched_getparam(Task& task, pid_t tid, UserPtr<SchedParam> to) {
  if (!to || tid < 0) return Errno(EINVAL);
  TRY(task.write(to, SchedParam{TRY(scheduling_of(task, tid)).priority}));
  return 0L;
}

Result<long> sys_sched_setscheduler(Task& task, pid_t tid, int policy, UserPtr<const SchedParam> from) {
  if (!from || tid < 0 || policy < 0) return Errno(EINVAL);
  const SchedParam wanted = TRY(task.read(from));
  return set_scheduling(task, tid, policy & ~SCHED_RESET_ON_FORK, wanted.priority, (policy & SCHED_RESET_ON_FORK) != 0, std::nullopt);
}

Result<long> sys_sched_getscheduler(Task& task, pid_t tid) {
  const Scheduling found = TRY(scheduling_of(task, tid));
  return static_cast<long>(found.policy | (found.reset_on_fork ? SCHED_RESET_ON_FORK : 0));
}

Result<long> priority_bound(int policy, long real_time) {
  switch (policy) {
    case SCHED_FIFO:
    case SCHED_RR:
      return real_time;
    case SCHED_OTHER:
    case SCHED_BATCH:
    case SCHED_IDLE:
    case 6 /* SCHED_DEADLINE */:
      return 0L;
    default:
      return Errno(EINVAL);
  }
}
Result<long> sys_sched_get_priority_max(Task&, int policy) { return priority_bound(policy, 99); }
Result<long> sys_sched_get_priority_min(Task&, int policy) { return priority_bound(policy, 1); }

Result<long> sys_sched_rr_get_interval(Task& task, pid_t tid, UserPtr<timespec> to) {
  if (tid < 0) return Errno(EINVAL);  // unlike those of affinities: ESRCH
  bool own = false;
  TRY(host_thread_of(task, tid, &own));
  TRY(task.write(to, timespec{0, 4'000'000}));
  return 0L;
}

struct SchedAttributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};
static_assert(sizeof(SchedAttributes) == 48);

constexpr uint64_t kResetOnFork = 1, kKeepPolicy = 8, kKeepParams = 16;  // SCHED_FLAG_*

Result<long> sys_sched_setattr(Task& task, pid_t tid, UserPtr<const SchedAttributes> from, unsigned flags) {
  constexpr unsigned kDeadline = 6;
  if (!from || tid < 0 || flags != 0) return Errno(EINVAL);
  SchedAttributes wanted = TRY(task.read(from));
  if (wanted.size != 0 && wanted.size < sizeof wanted) return Errno(E2BIG);
  if ((wanted.flags & ~(kResetOnFork | kKeepPolicy | kKeepParams)) != 0) return Errno(EINVAL);
  if ((wanted.flags & kKeepPolicy) == 0 && wanted.policy >= kDeadline) return wanted.policy == kDeadline ? Errno(EPERM) : Errno(EINVAL);
  int nice = 0;
  const Scheduling before = TRY(scheduling_of(task, tid, &nice));
  const int policy = (wanted.flags & kKeepPolicy) != 0 ? before.policy : static_cast<int>(wanted.policy);
  const bool keep = (wanted.flags & kKeepParams) != 0;
  return set_scheduling(task, tid, policy, keep ? before.priority : static_cast<int>(wanted.priority), (wanted.flags & kResetOnFork) != 0,
                        keep ? nice : std::clamp(wanted.nice, -20, 19));
}

Result<long> sys_sched_getattr(Task& task, pid_t tid, UserPtr<SchedAttributes> to, unsigned size, unsigned flags) {
  if (!to || tid < 0 || flags != 0 || size < sizeof(SchedAttributes) || size > 4096) return Errno(EINVAL);
  SchedAttributes answer{};
  const Scheduling found = TRY(scheduling_of(task, tid, &answer.nice));
  answer.size = sizeof answer;
  answer.policy = static_cast<uint32_t>(found.policy);
  answer.priority = static_cast<uint32_t>(found.priority);
  answer.flags = found.reset_on_fork ? kResetOnFork : 0;
  TRY(task.write(to, answer));
  return 0L;
}

Result<long> sys_sched_yield(Task&) {
  sched_yield();
  return 0L;
}

Result<long> sys_getcpu(Task& task, UserPtr<unsigned> cpu, UserPtr<unsigned> node) {
  unsigned c = 0, n = 0;
  TRY(host_result(syscall(SYS_getcpu, &c, &n, nullptr)));
  if (cpu) TRY(task.write(cpu, c));
  if (node) TRY(task.write(node, n));
  return 0L;
}

// memfd_create(2): a host memfd, whose seals are the host's.
class MemoryFile : public HostFile {
 public:
  MemoryFile(UniqueFd fd, std::string name) : HostFile(Path(), O_RDWR, std::move(fd)), name_(std::move(name)) {}
  Result<long> control(Task&, int command, uint64_t argument) override {
    if (command == F_GET_SEALS) return host_result(fcntl(host_fd(), F_GET_SEALS));
    if (command != F_ADD_SEALS) return Errno(EINVAL);
    return host_result(fcntl(host_fd(), F_ADD_SEALS, static_cast<int>(argument)));
  }
  std::string description() const override { return "/memfd:" + name_ + " (deleted)"; }

 private:
  const std::string name_;
};

Result<long> sys_memfd_create(Task& task, UserPtr<const char> name, unsigned flags) {
  constexpr unsigned kNoExecSeal = 8, kExec = 16;
  if ((flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING | kNoExecSeal | kExec)) != 0) return Errno(EINVAL);
  if ((flags & kNoExecSeal) != 0 && (flags & kExec) != 0) return Errno(EINVAL);
  Result<std::string> text = task.read_string(name, 250);
  if (!text) return text.error() == Errno(ENAMETOOLONG) ? Errno(EINVAL) : text.error();
  // The host's name is of no use to the guest, and nobody else shall read it.
  UniqueFd fd(static_cast<int>(TRY(host_result(::memfd_create("guest", (flags & ~MFD_CLOEXEC) | MFD_CLOEXEC)))));
  return install(task, std::make_shared<MemoryFile>(std::move(fd), *std::move(text)), (flags & MFD_CLOEXEC) != 0);
}

}  // namespace

std::span<const SyscallRow> sched_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(sched_yield, 24, Full, ""),
      SYSCALL(sysinfo, 99, Partial, "the node's figures"),
      SYSCALL(sched_setparam, 142, Partial, "no real-time policies: EPERM"),
      SYSCALL(sched_getparam, 143, Full, ""),
      SYSCALL(sched_setscheduler, 144, Partial, "no real-time policies: EPERM"),
      SYSCALL(sched_getscheduler, 145, Full, ""),
      SYSCALL(sched_get_priority_max, 146, Full, ""),
      SYSCALL(sched_get_priority_min, 147, Full, ""),
      SYSCALL(sched_rr_get_interval, 148, Full, ""),
      SYSCALL(sched_setaffinity, 203, Full, ""),
      SYSCALL(sched_getaffinity, 204, Full, ""),
      SYSCALL(getcpu, 309, Full, ""),
      SYSCALL(sched_setattr, 314, Partial, "no real-time policies: EPERM"),
      SYSCALL(sched_getattr, 315, Full, ""),
      SYSCALL(getrandom, 318, Full, ""),
      SYSCALL(memfd_create, 319, Partial, "no huge pages"),
  };
  return rows;
}

}  // namespace caisson::kernel
