// The guest's clocks: clock_gettime(2)'s numbers, and what a time on one of them means on CLOCK_MONOTONIC.
#pragma once

#include <time.h>

#include <cstdint>
#include <memory>

#include "kernel/task/task.h"

namespace caisson::kernel {

// Nanoseconds. EINVAL: no such clock, or a CPU clock of a process that is not there.
Result<int64_t> clock_now(Task& task, clockid_t clock);
Result<int64_t> clock_resolution(Task& task, clockid_t clock);

// A clock that timers and sleeps can use: it goes at the rate of CLOCK_MONOTONIC. EINVAL, or EOPNOTSUPP (a CPU clock).
Result<void> check_wall_clock(clockid_t clock);
// When (CLOCK_MONOTONIC) such a clock will show `time`, as things are now.
int64_t monotonic_at(clockid_t clock, int64_t time);
int64_t wall_clock_now(clockid_t clock);

// Nanoseconds; EINVAL where it is no time. Beyond 292 years: the greatest number.
Result<int64_t> nanoseconds_of(const timespec& time);
timespec timespec_of(int64_t nanoseconds);

// Processor time of a process, or of a task, since it began: of its stub.
int64_t process_cpu_time(Task& task);
// The same, divided as the host has it.
struct ProcessCpuTime {
  int64_t user_ns = 0, system_ns = 0;
};
ProcessCpuTime process_cpu_times(Task& task);
// Processor time that the kernel's thread of a task has used for it; begin_serving(): the calling thread is that one.
int64_t served_time(const Task& task);
void begin_serving(Task& task);
inline bool is_cpu_clock(clockid_t clock) { return clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID; }
// What a clock of CPU time (those two, and those made of a number, clock_getcpuclockid(3)) counts.
struct CpuClockOwner {
  std::weak_ptr<ThreadGroup> group;
  pid_t tid = 0;  // of one thread of it, in its PID namespace; 0: all of them
};
// EINVAL: it is none, or nobody of the caller's to know has that number.
Result<CpuClockOwner> cpu_clock_owner(Task& task, clockid_t clock);
// Its nanoseconds. EINVAL: it has gone.
Result<int64_t> cpu_time_of(Kernel& kernel, const CpuClockOwner& owner);

}  // namespace caisson::kernel
