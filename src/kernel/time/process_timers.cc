#include "kernel/time/process_timers.h"

#include <sys/time.h>

#include "kernel/platform/stub_thread.h"
#include "kernel/signal/send.h"
#include "kernel/task/kernel.h"
#include "kernel/time/clock.h"

namespace caisson::kernel {
namespace {

constexpr int kSignals[] = {SIGALRM, SIGVTALRM, SIGPROF};

// CPU time of a process's stub, and how many of its threads can run at once. A process that has gone uses none.
int64_t cpu_time_of(Kernel& kernel, const std::weak_ptr<ThreadGroup>& weak) {
  const auto group = weak.lock();
  if (!group) return 0;
  std::lock_guard guard(kernel.tasks);
  // Of its stub, and of those before an exec.
  int64_t time = group->usage.user_ns + group->usage.system_ns;
  for (Task* task : group->tasks) {
    if (!task->stub) continue;
    time += process_cpu_time(*task);
    break;
  }
  return time;
}

int threads_of(Kernel& kernel, const std::weak_ptr<ThreadGroup>& weak) {
  const auto group = weak.lock();
  if (!group) return 1;
  std::lock_guard guard(kernel.tasks);
  return static_cast<int>(group->tasks.size());
}

}  // namespace

// The timer and what its signal is made of. Under ProcessTimers::lock_: nothing; under Kernel::tasks: lost, told.
struct ProcessTimers::PosixTimer {
  clockid_t clock = 0;
  Notice notice;
  int id = 0;
  uint64_t lost = 0;  // expirations while the signal of an earlier one was still pending
  int told = 0;       // the overrun count of the last signal
  std::shared_ptr<GuestTimer> timer;
};

std::shared_ptr<ProcessTimers> ProcessTimers::existing(Task& task) {
  std::lock_guard guard(task.kernel.tasks);
  return task.group->timers;
}

std::shared_ptr<ProcessTimers> ProcessTimers::of(Task& task) {
  std::lock_guard guard(task.kernel.tasks);
  if (!task.group->timers) task.group->timers = std::make_shared<ProcessTimers>(task.kernel, task.group);
  return task.group->timers;
}

GuestTimer::Source ProcessTimers::source(clockid_t clock) {
  const bool cpu = clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
  if (!cpu) return {[clock] { return wall_clock_now(clock); }, {}};
  return {[&kernel = kernel_, group = group_] { return cpu_time_of(kernel, group); },
          [&kernel = kernel_, group = group_] { return threads_of(kernel, group); }};
}

GuestTimer& ProcessTimers::interval_timer(int which) {
  std::lock_guard guard(lock_);
  std::shared_ptr<GuestTimer>& timer = intervals_[which];
  if (!timer)
    timer = std::make_shared<GuestTimer>(source(which == ITIMER_REAL ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID), false,
                                         [&kernel = kernel_, group = group_, signal = kSignals[which]](uint64_t) {
                                           const auto strong = group.lock();
                                           if (!strong) return;
                                           std::lock_guard tasks(kernel.tasks);
                                           send_to_group_locked(*strong, user_signal(signal, nullptr));
                                         });
  return *timer;
}

Result<int> ProcessTimers::create(clockid_t clock, const Notice& notice) {
  auto made = std::make_shared<PosixTimer>();
  made->clock = clock;
  made->notice = notice;
  std::weak_ptr<PosixTimer> weak = made;
  made->timer = std::make_shared<GuestTimer>(source(clock), false, [&kernel = kernel_, group = group_, weak](uint64_t n) {
    const auto strong = group.lock();
    const auto timer = weak.lock();
    if (!strong || !timer || timer->notice.notify == SIGEV_NONE) return;
    std::lock_guard tasks(kernel.tasks);
    Task* target = nullptr;
    if (timer->notice.notify == SIGEV_THREAD_ID) {
      auto found = strong->pids->tasks.find(timer->notice.tid);
      if (found == strong->pids->tasks.end() || found->second->group != strong) return;
      target = found->second;
    }
    const PendingSignals& pending = target != nullptr ? target->pending : strong->pending;
    if ((pending.set() & abi::sig_bit(timer->notice.signal)) != 0) {
      timer->lost += n;
      return;
    }
    abi::SigInfo info;
    info.signo = timer->notice.signal;
    info.code = SI_TIMER;
    info.timer.timer = timer->id;
    info.timer.overrun = timer->told = static_cast<int>(std::min<uint64_t>(timer->lost + n - 1, INT32_MAX));
    info.timer.value = timer->notice.value_is_id ? static_cast<uint64_t>(timer->id) : timer->notice.value;
    timer->lost = 0;
    if (target != nullptr)
      send_to_task_locked(*target, info);
    else
      send_to_group_locked(*strong, info);
  });
  std::lock_guard guard(lock_);
  if (posix_.size() >= kMost) return Errno(EAGAIN);
  while (posix_.contains(next_)) next_ = next_ == INT32_MAX ? 0 : next_ + 1;
  made->id = next_;
  posix_[made->id] = made;
  next_ = next_ == INT32_MAX ? 0 : next_ + 1;
  return made->id;
}

Result<std::shared_ptr<GuestTimer>> ProcessTimers::find(int id, clockid_t* clock) {
  std::lock_guard guard(lock_);
  auto found = posix_.find(id);
  if (found == posix_.end()) return Errno(EINVAL);
  if (clock != nullptr) *clock = found->second->clock;
  return found->second->timer;
}

Result<void> ProcessTimers::remove(int id) {
  std::shared_ptr<PosixTimer> old;
  std::lock_guard guard(lock_);
  auto found = posix_.find(id);
  if (found == posix_.end()) return Errno(EINVAL);
  old = std::move(found->second);
  posix_.erase(found);
  return {};
}

Result<int> ProcessTimers::overrun(int id) {
  std::shared_ptr<PosixTimer> timer;
  {
    std::lock_guard guard(lock_);
    auto found = posix_.find(id);
    if (found == posix_.end()) return Errno(EINVAL);
    timer = found->second;
  }
  std::lock_guard tasks(kernel_.tasks);
  return timer->told;
}

void ProcessTimers::exec() {
  std::map<int, std::shared_ptr<PosixTimer>> old;
  std::lock_guard guard(lock_);
  old.swap(posix_);
}

}  // namespace caisson::kernel
