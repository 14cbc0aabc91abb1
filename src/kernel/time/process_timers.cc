#include "kernel/time/process_timers.h"

#include <stdio.h>
#include <sys/time.h>

#include <algorithm>

#include "kernel/platform/host_proc.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/signal/send.h"
#include "kernel/task/kernel.h"
#include "kernel/time/clock.h"

namespace caisson::kernel {
namespace {

constexpr int kSignals[] = {SIGALRM, SIGVTALRM, SIGPROF};

// How many of its threads can run at once.
int threads_of(Kernel& kernel, const std::weak_ptr<ThreadGroup>& weak) {
  const auto group = weak.lock();
  if (!group) return 1;
  std::lock_guard guard(kernel.tasks);
  return static_cast<int>(group->tasks.size());
}

// As /proc tells of a thread of a stub: it runs or waits for a CPU.
bool is_at_work(pid_t host_tid) {
  char path[32];
  snprintf(path, sizeof path, "%d/stat", host_tid);
  const Result<std::string> text = read_host_proc(path, 256);
  const size_t name = text ? text->rfind(')') : std::string::npos;
  return name != std::string::npos && name + 2 < text->size() && (*text)[name + 2] == 'R';
}

// tid: the thread that is to take it, if it is still there; 0: as for any signal.
void send_to_thread_locked(ThreadGroup& group, const abi::SigInfo& info, pid_t tid) {
  const auto found = std::find_if(group.tasks.begin(), group.tasks.end(), [&](const Task* task) { return tid != 0 && task->tid == tid; });
  send_to_group_locked(group, info, found == group.tasks.end() ? nullptr : *found);
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

std::shared_ptr<ProcessTimers> ProcessTimers::of(Kernel& kernel, const std::shared_ptr<ThreadGroup>& group) {
  std::lock_guard guard(kernel.tasks);
  if (!group->timers) group->timers = std::make_shared<ProcessTimers>(kernel, group);
  return group->timers;
}

GuestTimer::Source ProcessTimers::source(clockid_t clock, const CpuClockOwner& owner) {
  if (!is_cpu_clock(clock)) return {[clock] { return wall_clock_now(clock); }, {}};
  // What has gone uses none.
  const auto now = [&kernel = kernel_, owner]() -> int64_t {
    const Result<int64_t> time = cpu_time_of(kernel, owner);
    return time ? *time : 0;
  };
  if (owner.tid != 0) return {now, [] { return 1; }};
  return {now, [&kernel = kernel_, group = owner.group] { return threads_of(kernel, group); }};
}

pid_t ProcessTimers::thread_at_work(ThreadGroup& group, int signal) {
  std::vector<std::pair<pid_t, pid_t>> candidates;  // guest's number, host's
  {
    std::lock_guard guard(kernel_.tasks);
    for (const Task* task : group.tasks)
      if (task->stub && (task->blocked & abi::sig_bit(signal)) == 0) candidates.emplace_back(task->tid, task->host_tid());
  }
  if (candidates.size() < 2) return 0;
  // One after the other: those that work have their turns.
  const auto last = std::find_if(candidates.begin(), candidates.end(), [&](const auto& each) { return each.first == last_at_work_; });
  if (last != candidates.end()) std::rotate(candidates.begin(), last + 1, candidates.end());
  if (candidates.size() > kMostLookedAt) candidates.resize(kMostLookedAt);
  for (const auto& [tid, host_tid] : candidates)
    if (is_at_work(host_tid)) return last_at_work_ = tid;
  // Those that were looked at are passed by next time.
  last_at_work_ = candidates.back().first;
  return 0;
}

void ProcessTimers::send(ThreadGroup& group, int signal, clockid_t clock) {
  const pid_t tid = is_cpu_clock(clock) ? thread_at_work(group, signal) : 0;
  std::lock_guard tasks(kernel_.tasks);
  send_to_thread_locked(group, user_signal(signal, nullptr), tid);
}

GuestTimer& ProcessTimers::interval_timer(int which) {
  std::lock_guard guard(lock_);
  std::shared_ptr<GuestTimer>& timer = intervals_[which];
  const clockid_t clock = which == ITIMER_REAL ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID;
  if (!timer)
    timer =
        std::make_shared<GuestTimer>(source(clock, {group_}), false, [weak = weak_from_this(), clock, signal = kSignals[which]](uint64_t) {
          const auto self = weak.lock();
          const auto strong = self ? self->group_.lock() : nullptr;
          if (!strong) return;
          self->send(*strong, signal, clock);
        });
  return *timer;
}

void ProcessTimers::limit_cpu(const rlimit& limit) {
  std::shared_ptr<GuestTimer> timer;
  {
    std::lock_guard guard(lock_);
    if (!cpu_limit_)
      cpu_limit_ = std::make_shared<GuestTimer>(source(CLOCK_PROCESS_CPUTIME_ID, {group_}), false, [weak = weak_from_this()](uint64_t) {
        const auto self = weak.lock();
        const auto group = self ? self->group_.lock() : nullptr;
        if (!group) return;
        const Result<int64_t> now = cpu_time_of(self->kernel_, {group});
        const rlim_t hard = group->limit(RLIMIT_CPU).rlim_max;
        const bool over = hard != RLIM_INFINITY && now && static_cast<rlim_t>(*now / 1'000'000'000) >= hard;
        self->send(*group, over ? SIGKILL : SIGXCPU, CLOCK_PROCESS_CPUTIME_ID);
      });
    timer = cpu_limit_;
  }
  // 0 is taken for 1, as Linux does.
  const rlim_t first = std::max<rlim_t>(1, std::min(limit.rlim_cur, limit.rlim_max));
  if (first >= INT64_MAX / 1'000'000'000)
    timer->set(0, 0, false);
  else
    timer->set(static_cast<int64_t>(first) * 1'000'000'000, 1'000'000'000, true);
}

Result<int> ProcessTimers::create(clockid_t clock, const CpuClockOwner& owner, const Notice& notice) {
  auto made = std::make_shared<PosixTimer>();
  made->clock = clock;
  made->notice = notice;
  std::weak_ptr<PosixTimer> weak = made;
  made->timer = std::make_shared<GuestTimer>(source(clock, owner), false, [timers = weak_from_this(), clock, owner, weak](uint64_t n) {
    const auto self = timers.lock();
    const auto strong = self ? self->group_.lock() : nullptr;
    const auto timer = weak.lock();
    if (!strong || !timer || timer->notice.notify == SIGEV_NONE) return;
    // As Linux, whose tick finds the timer expired in a thread that uses it up.
    pid_t taker = 0;
    if (is_cpu_clock(clock) && timer->notice.notify != SIGEV_THREAD_ID && owner.group.lock() == strong)
      taker = owner.tid != 0 ? owner.tid : self->thread_at_work(*strong, timer->notice.signal);
    std::lock_guard tasks(self->kernel_.tasks);
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
      send_to_thread_locked(*strong, info, taker);
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
