#include "kernel/time/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>

#include "kernel/platform/host_proc.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

Result<int64_t> host_clock(clockid_t clock) {
  timespec now{};
  if (clock_gettime(clock, &now) != 0) return Errno(EINVAL);
  return now.tv_sec * kSecond + now.tv_nsec;
}

// The kernel's numbers of processes' and threads' clocks (include/linux/posix-timers.h): ~pid in the upper bits, bit 2: one thread's, and
// what they count.
enum Counted { kAll = 0, kUser = 1, kScheduled = 2 };  // 0 and 1: at ticks; 2: as the scheduler counts it
constexpr clockid_t cpu_clock_of(pid_t pid, bool thread, Counted counted = kScheduled) {
  return static_cast<clockid_t>(~static_cast<uint32_t>(pid) << 3) | (thread ? 4 : 0) | counted;
}

// The clock of a thread of another process is not to be had, but /proc tells.
Result<int64_t> thread_cpu_time(pid_t host_tid) {
  char path[64];
  snprintf(path, sizeof path, "%d/schedstat", host_tid);
  const std::string text = TRY(read_host_proc(path, 128));
  return static_cast<int64_t>(strtoll(text.c_str(), nullptr, 10));
}

}  // namespace

Result<CpuClockOwner> cpu_clock_owner(Task& task, clockid_t clock) {
  if (clock == CLOCK_PROCESS_CPUTIME_ID) return CpuClockOwner{task.group, 0};
  if (clock == CLOCK_THREAD_CPUTIME_ID) return CpuClockOwner{task.group, task.tid};
  if (clock >= 0 || (clock & 3) == 3) return Errno(EINVAL);
  const bool thread = (clock & 4) != 0;
  const pid_t wanted = ~(clock >> 3);
  if (wanted == 0) return CpuClockOwner{task.group, thread ? task.tid : 0};
  std::lock_guard guard(task.kernel.tasks);
  if (thread) {
    auto found = task.group->pids->tasks.find(wanted);
    if (found == task.group->pids->tasks.end() || found->second->group != task.group) return Errno(EINVAL);
    return CpuClockOwner{task.group, wanted};
  }
  auto found = task.group->pids->groups.find(wanted);
  if (found == task.group->pids->groups.end()) return Errno(EINVAL);
  return CpuClockOwner{found->second, 0};
}

Result<int64_t> cpu_time_of(Kernel& kernel, const CpuClockOwner& owner) {
  const auto group = owner.group.lock();
  if (!group) return Errno(EINVAL);
  pid_t host = 0;
  {
    std::lock_guard guard(kernel.tasks);
    for (Task* task : group->tasks) {
      if (!task->stub) continue;
      // Of its stub, and of those before an exec.
      if (owner.tid == 0) return group->usage.user_ns + group->usage.system_ns + process_cpu_time(*task);
      if (task->tid == owner.tid) host = task->host_tid();
    }
  }
  if (host == 0) return Errno(EINVAL);
  const Result<int64_t> time = thread_cpu_time(host);
  return time ? time : Errno(EINVAL);
}

int64_t process_cpu_time(Task& task) {
  if (!task.stub) return 0;
  const Result<int64_t> time = host_clock(cpu_clock_of(task.stub->process()->pid(), false));
  return time ? *time : 0;
}

ProcessCpuTime process_cpu_times(Task& task) {
  const int64_t time = process_cpu_time(task);
  if (time == 0) return {};
  const pid_t pid = task.stub->process()->pid();
  const Result<int64_t> all = host_clock(cpu_clock_of(pid, false, kAll)), user = host_clock(cpu_clock_of(pid, false, kUser));
  if (!all || !user || *all <= 0 || *user > *all) return {time, 0};
  const auto share = static_cast<int64_t>(static_cast<__int128>(time) * *user / *all);
  return {share, time - share};
}

int64_t served_time(const Task& task) {
  const pid_t server = task.server;
  if (server == 0) return 0;
  const Result<int64_t> time = host_clock(cpu_clock_of(server, true));
  return time ? std::max<int64_t>(*time - task.server_began, 0) : 0;
}

void begin_serving(Task& task) {
  thread_local const pid_t own = gettid();
  const Result<int64_t> began = host_clock(CLOCK_THREAD_CPUTIME_ID);
  task.server_began = began ? *began : 0;
  task.server = own;
}

Result<int64_t> clock_now(Task& task, clockid_t clock) {
  if (is_cpu_clock(clock)) return cpu_time_of(task.kernel, TRY(cpu_clock_owner(task, clock)));
  switch (clock) {
    case CLOCK_REALTIME_ALARM:
      return host_clock(CLOCK_REALTIME);
    case CLOCK_BOOTTIME_ALARM:
      return host_clock(CLOCK_BOOTTIME);
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_TAI:
      return host_clock(clock);
    default:
      return Errno(EINVAL);
  }
}

Result<int64_t> clock_resolution(Task& task, clockid_t clock) {
  if (clock != CLOCK_THREAD_CPUTIME_ID) TRY(clock_now(task, clock));
  if (clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE) return int64_t{4'000'000};
  return int64_t{1};
}

Result<void> check_wall_clock(clockid_t clock) {
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME:
    case CLOCK_TAI:
    case CLOCK_REALTIME_ALARM:
    case CLOCK_BOOTTIME_ALARM:
      return {};
    case CLOCK_PROCESS_CPUTIME_ID:
    case CLOCK_THREAD_CPUTIME_ID:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_MONOTONIC_COARSE:
      return Errno(EOPNOTSUPP);
    default:
      return Errno(EINVAL);
  }
}

int64_t wall_clock_now(clockid_t clock) {
  const clockid_t plain = clock == CLOCK_REALTIME_ALARM ? CLOCK_REALTIME : clock == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME : clock;
  const Result<int64_t> now = host_clock(plain);
  return now ? *now : 0;
}

int64_t monotonic_at(clockid_t clock, int64_t time) {
  const int64_t now = monotonic_now();
  const int64_t left = time - wall_clock_now(clock);
  if (left <= 0) return now;
  return left > INT64_MAX - now ? INT64_MAX : now + left;
}

Result<int64_t> nanoseconds_of(const timespec& time) {
  if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= kSecond) return Errno(EINVAL);
  if (time.tv_sec >= INT64_MAX / kSecond) return INT64_MAX;
  return time.tv_sec * kSecond + time.tv_nsec;
}

timespec timespec_of(int64_t nanoseconds) { return {nanoseconds / kSecond, nanoseconds % kSecond}; }

}  // namespace caisson::kernel
