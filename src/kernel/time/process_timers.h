// ProcessTimers: the interval timers (setitimer(2)) and POSIX timers (timer_create(2)) of a process.
//
// Locks: its own, a leaf; signals are sent without it, under Kernel::tasks.
#pragma once

#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include <map>
#include <memory>
#include <mutex>

#include "kernel/task/task.h"
#include "kernel/time/clock.h"
#include "kernel/time/guest_timer.h"

namespace caisson::kernel {

class ProcessTimers : public std::enable_shared_from_this<ProcessTimers> {
 public:
  // The task's process's; made at the first use.
  static std::shared_ptr<ProcessTimers> of(Task& task) { return of(task.kernel, task.group); }
  static std::shared_ptr<ProcessTimers> of(Kernel& kernel, const std::shared_ptr<ThreadGroup>& group);
  // If it has any.
  static std::shared_ptr<ProcessTimers> existing(Task& task);

  ProcessTimers(Kernel& kernel, std::weak_ptr<ThreadGroup> group) : kernel_(kernel), group_(std::move(group)) {}

  // which: ITIMER_REAL, ITIMER_VIRTUAL or ITIMER_PROF.
  GuestTimer& interval_timer(int which);

  // What timer_create's sigevent asks for.
  struct Notice {
    int notify = SIGEV_SIGNAL;  // SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD_ID
    int signal = SIGALRM;
    uint64_t value = 0;
    bool value_is_id = false;  // no sigevent was given
    pid_t tid = 0;
  };
  // The timer's number. owner: where it is a clock of CPU time. EAGAIN: too many.
  Result<int> create(clockid_t clock, const CpuClockOwner& owner, const Notice& notice);
  Result<std::shared_ptr<GuestTimer>> find(int id, clockid_t* clock = nullptr);
  Result<void> remove(int id);
  Result<int> overrun(int id);

  // RLIMIT_CPU has been set: SIGXCPU at the soft limit and each second after it, SIGKILL at the hard one (setrlimit(2)).
  void limit_cpu(const rlimit& limit);

  // execve(2): POSIX timers go, interval timers stay.
  void exec();

 private:
  struct PosixTimer;
  GuestTimer::Source source(clockid_t clock, const CpuClockOwner& owner);
  // The guest's number of a thread of the group that runs and takes this signal: it gets that of a clock of CPU time, so that profilers see
  // what runs. 0: none was found, or any will do. From the thread of TimerService.
  pid_t thread_at_work(ThreadGroup& group, int signal);
  // What a timer of this clock sends when it expires. From the thread of TimerService.
  void send(ThreadGroup& group, int signal, clockid_t clock);
  static constexpr size_t kMostLookedAt = 32;
  static constexpr size_t kMost = 1024;

  Kernel& kernel_;
  const std::weak_ptr<ThreadGroup> group_;
  std::mutex lock_;
  std::shared_ptr<GuestTimer> intervals_[3], cpu_limit_;
  std::map<int, std::shared_ptr<PosixTimer>> posix_;
  int next_ = 0;
  pid_t last_at_work_ = 0;  // used by the thread of TimerService only
};

}  // namespace caisson::kernel
