// How the ends of a container's processes become known: no exit before the start that it follows, and init's after those of all exec
// processes.
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "host/process.h"
#include "sandbox/local/container.h"

namespace caisson::sandbox::local {
namespace {

// How long init's end waits for those of exec processes that are being killed.
constexpr auto kExecPatience = std::chrono::seconds(10);
// Ended exec processes that nobody has deleted.
constexpr size_t kMaxEndedExecs = 256;
// Looks for the victim of a memory shortage, 10 ms apart.
constexpr int kOomLooks = 100;

}  // namespace

void LocalContainer::init_ended(int wait_status) {
  init_exit_ = exit_from_wait_status(wait_status);
  publish_init_exit();
}

bool LocalContainer::execs_alive() const {
  for (const auto& [exec_id, process] : execs_)
    if (process->alive()) return true;
  return false;
}

void LocalContainer::publish_init_exit() {
  if (!init_exit_ || init_.exit || starting_) return;
  if (execs_alive() && !gave_up_on_execs_) return kill_execs_with_init();
  check_oom();
  init_.exit = init_exit_;
  if (auto stopped = step(state_, Stopped(), id_); !stopped) log::error("{}", stopped.error().message());
  emit(v1::Event::EXITED, {}, init_.pid, init_.exit->status);
  const auto self = shared_from_this();
  init_.tell_waiters();
  for (auto& hook : std::exchange(on_init_exit_, {})) hook();
}

// The kernel kills what is in init's own PID namespace before init itself is gone. What shares another one is killed here, as containerd's
// shim does it.
void LocalContainer::kill_execs_with_init() {
  if (std::exchange(killing_execs_, true)) return;
  core_->loop.add_timer(kExecPatience, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self) return;
    self->gave_up_on_execs_ = true;
    self->publish_init_exit();
  });
  for (const auto& [exec_id, process] : execs_)
    if (process->pidfd && process->alive()) (void)host::send_signal(process->pidfd.get(), SIGKILL);
  if (record_.owns_pid_namespace) return;
  work(
      {.deadline = kExecPatience},
      [record = record_]() -> Result<host::WorkerOutput> {
        TRY(container::kill(record, SIGKILL, true));
        return host::WorkerOutput();
      },
      [this](Result<host::WorkerOutput> killed) {
        if (!killed && killed.error().code() != ESRCH)
          log::warning("what container {} has left running cannot be killed: {}", id_, killed.error().message());
      });
}

void LocalContainer::exec_ended(const std::string& exec_id, int wait_status) {
  auto found = execs_.find(exec_id);
  if (found == execs_.end()) return;
  const std::shared_ptr<Process> process = found->second;
  const uint64_t kills_before = oom_seen_;
  if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL) check_oom();
  process->oom_killed = oom_seen_ > kills_before;
  process->exit = exit_from_wait_status(wait_status);
  emit(v1::Event::EXITED, exec_id, process->pid, process->exit->status);
  process->tell_waiters();
  forget_old_execs();
  publish_init_exit();
}

// Health checks of a container that lives for months leave one each, if their callers do not delete them.
void LocalContainer::forget_old_execs() {
  std::multimap<int64_t, std::string> ended;
  for (const auto& [exec_id, process] : execs_)
    if (!process->alive()) ended.emplace(process->exit->at_unix_nanos, exec_id);
  for (auto oldest = ended.begin(); ended.size() > kMaxEndedExecs; oldest = ended.erase(oldest)) execs_.erase(oldest->second);
}

void LocalContainer::watch_oom(UniqueFd fd) {
  if (auto kills = host::oom_kills(record_.cgroup)) oom_seen_ = *kills;
  oom_events_ = std::move(fd);
  auto added = core_->loop.add(oom_events_.get(), EPOLLIN, [weak = weak_from_this()](uint32_t) {
    auto self = weak.lock();
    if (!self || !self->oom_events_) return;
    char buffer[4096];
    const ssize_t count = read(self->oom_events_.get(), buffer, sizeof buffer);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) return self->stop_oom_watch();
    self->look_for_oom(kOomLooks);
  });
  if (!added) {
    log::warning("no out-of-memory events of container {}: {}", id_, added.error().message());
    oom_events_.reset();
  }
}

// v1 tells of the shortage before it kills: the count follows.
void LocalContainer::look_for_oom(int looks) {
  if (check_oom() || looks == 0) return;
  core_->loop.add_timer(std::chrono::milliseconds(10), [weak = weak_from_this(), looks] {
    if (auto self = weak.lock()) self->look_for_oom(looks - 1);
  });
}

bool LocalContainer::check_oom() {
  if (!oom_events_) return false;
  auto kills = host::oom_kills(record_.cgroup);
  if (!kills || *kills <= oom_seen_) return false;
  oom_seen_ = *kills;
  init_.oom_killed = true;
  emit(v1::Event::OOM);
  return true;
}

void LocalContainer::stop_oom_watch() {
  if (!oom_events_) return;
  core_->loop.remove(oom_events_.get());
  oom_events_.reset();
}

}  // namespace caisson::sandbox::local
