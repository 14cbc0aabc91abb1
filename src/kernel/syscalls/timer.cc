// Interval timers, POSIX timers and timerfd.
#include <sys/time.h>
#include <sys/timerfd.h>

#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/task/kernel.h"
#include "kernel/time/clock.h"
#include "kernel/time/process_timers.h"
#include "kernel/time/timerfd.h"

namespace caisson::kernel {
namespace {

using Setting = GuestTimer::Setting;

timeval timeval_of(int64_t nanoseconds) {
  const int64_t microseconds = nanoseconds / 1000 + (nanoseconds % 1000 != 0);
  return {microseconds / 1'000'000, microseconds % 1'000'000};
}

Result<int64_t> nanoseconds_of_timeval(const timeval& time) {
  if (time.tv_usec < 0 || time.tv_usec >= 1'000'000) return Errno(EINVAL);
  return nanoseconds_of(timespec{time.tv_sec, time.tv_usec * 1000});
}

itimerval encode_interval(const Setting& setting) { return {timeval_of(setting.interval), timeval_of(setting.left)}; }
itimerspec encode(const Setting& setting) { return {timespec_of(setting.interval), timespec_of(setting.left)}; }

Result<long> sys_getitimer(Task& task, int which, UserPtr<itimerval> to) {
  if (which < 0 || which > 2) return Errno(EINVAL);
  const auto timers = ProcessTimers::existing(task);
  TRY(task.write(to, encode_interval(timers ? timers->interval_timer(which).get() : Setting())));
  return 0L;
}

Result<long> sys_setitimer(Task& task, int which, UserPtr<const itimerval> from, UserPtr<itimerval> old) {
  if (which < 0 || which > 2) return Errno(EINVAL);
  itimerval wanted{};
  if (from) wanted = TRY(task.read(from));
  const int64_t value = TRY(nanoseconds_of_timeval(wanted.it_value)), interval = TRY(nanoseconds_of_timeval(wanted.it_interval));
  const Setting before = ProcessTimers::of(task)->interval_timer(which).set(value, value == 0 ? 0 : interval, false);
  if (old) TRY(task.write(old, encode_interval(before)));
  return 0L;
}

Result<long> sys_alarm(Task& task, unsigned seconds) {
  const Setting before = ProcessTimers::of(task)->interval_timer(ITIMER_REAL).set(seconds * 1'000'000'000L, 0, false);
  // What is left, rounded; never 0 while an alarm was set.
  if (before.left == 0) return 0L;
  return std::max<long>(1, (before.left + 500'000'000) / 1'000'000'000);
}

// struct sigevent as the system call has it.
struct SigEvent {
  uint64_t value;
  int32_t signal, notify;
  int32_t tid;
  char pad[44];
};
static_assert(sizeof(SigEvent) == 64);

Result<long> sys_timer_create(Task& task, clockid_t clock, UserPtr<const SigEvent> event, UserPtr<int> id) {
  CpuClockOwner owner;
  if (is_cpu_clock(clock))
    owner = TRY(cpu_clock_owner(task, clock));
  else if (Result<void> known = check_wall_clock(clock); !known)
    return known.error();
  ProcessTimers::Notice notice;
  if (event) {
    const SigEvent wanted = TRY(task.read(event));
    notice.notify = wanted.notify;
    notice.signal = wanted.signal;
    notice.value = wanted.value;
    notice.tid = wanted.tid;
    if (wanted.notify != SIGEV_NONE && wanted.notify != SIGEV_SIGNAL && wanted.notify != SIGEV_THREAD_ID && wanted.notify != SIGEV_THREAD)
      return Errno(EINVAL);
    if (wanted.notify != SIGEV_NONE && (wanted.signal < 1 || wanted.signal > abi::kSignals)) return Errno(EINVAL);
    if (wanted.notify == SIGEV_THREAD_ID) {
      std::lock_guard guard(task.kernel.tasks);
      auto found = task.group->pids->tasks.find(wanted.tid);
      if (found == task.group->pids->tasks.end() || found->second->group != task.group) return Errno(EINVAL);
    }
  } else {
    notice.value_is_id = true;
  }
  const auto timers = ProcessTimers::of(task);
  const int made = TRY(timers->create(clock, owner, notice));
  if (Result<void> written = task.write(id, made); !written) {
    (void)timers->remove(made);
    return written.error();
  }
  return 0L;
}

Result<std::shared_ptr<GuestTimer>> posix_timer(Task& task, int id, clockid_t* clock = nullptr) {
  const auto timers = ProcessTimers::existing(task);
  if (!timers) return Errno(EINVAL);
  return timers->find(id, clock);
}

Result<long> sys_timer_settime(Task& task, int id, int flags, UserPtr<const itimerspec> from, UserPtr<itimerspec> old) {
  if (!from) return Errno(EINVAL);
  const itimerspec wanted = TRY(task.read(from));
  const int64_t value = TRY(nanoseconds_of(wanted.it_value)), interval = TRY(nanoseconds_of(wanted.it_interval));
  const auto timer = TRY(posix_timer(task, id));
  const Setting before = timer->set(value, interval, (flags & TIMER_ABSTIME) != 0);
  if (old) TRY(task.write(old, encode(before)));
  return 0L;
}

Result<long> sys_timer_gettime(Task& task, int id, UserPtr<itimerspec> to) {
  const auto timer = TRY(posix_timer(task, id));
  TRY(task.write(to, encode(timer->get())));
  return 0L;
}

Result<long> sys_timer_getoverrun(Task& task, int id) {
  const auto timers = ProcessTimers::existing(task);
  if (!timers) return Errno(EINVAL);
  return static_cast<long>(TRY(timers->overrun(id)));
}

Result<long> sys_timer_delete(Task& task, int id) {
  const auto timers = ProcessTimers::existing(task);
  if (!timers) return Errno(EINVAL);
  TRY(timers->remove(id));
  return 0L;
}

Result<long> sys_timerfd_create(Task& task, clockid_t clock, int flags) {
  if ((flags & ~(TFD_CLOEXEC | TFD_NONBLOCK)) != 0) return Errno(EINVAL);
  if (clock == CLOCK_TAI || !check_wall_clock(clock)) return Errno(EINVAL);
  return install(task, std::make_shared<TimerFd>(clock, O_RDWR | (flags & TFD_NONBLOCK)), (flags & TFD_CLOEXEC) != 0);
}

Result<long> sys_timerfd_settime(Task& task, Fd fd, int flags, UserPtr<const itimerspec> from, UserPtr<itimerspec> old) {
  if ((flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) != 0) return Errno(EINVAL);
  const itimerspec wanted = TRY(task.read(from));
  const int64_t value = TRY(nanoseconds_of(wanted.it_value)), interval = TRY(nanoseconds_of(wanted.it_interval));
  const auto file = TRY(file_as<TimerFd>(task, fd, EINVAL));
  const Setting before = file->timer().set(value, interval, (flags & TFD_TIMER_ABSTIME) != 0);
  if (old) TRY(task.write(old, encode(before)));
  return 0L;
}

Result<long> sys_timerfd_gettime(Task& task, Fd fd, UserPtr<itimerspec> to) {
  const auto file = TRY(file_as<TimerFd>(task, fd, EINVAL));
  TRY(task.write(to, encode(file->timer().get())));
  return 0L;
}

}  // namespace

std::span<const SyscallRow> timer_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(getitimer, 36, Full, ""),
      SYSCALL(alarm, 37, Full, ""),
      SYSCALL(setitimer, 38, Partial, "ITIMER_VIRTUAL counts system time too"),
      SYSCALL(timer_create, 222, Partial, "a thread's CPU clock counts the whole process"),
      SYSCALL(timer_settime, 223, Full, ""),
      SYSCALL(timer_gettime, 224, Full, ""),
      SYSCALL(timer_getoverrun, 225, Full, ""),
      SYSCALL(timer_delete, 226, Full, ""),
      SYSCALL(timerfd_create, 283, Full, ""),
      SYSCALL(timerfd_settime, 286, Partial, "TFD_TIMER_CANCEL_ON_SET cancels nothing"),
      SYSCALL(timerfd_gettime, 287, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
