#include "host/event_loop.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <unordered_map>

#include "base/unique_fd.h"

namespace caisson::host {
namespace {

constexpr size_t kMaxOrphans = 4096;

}  // namespace

struct EventLoop::State {
  // A handler stays alive while it runs, whatever it removes.
  struct Watch {
    uint32_t generation = 0;
    std::shared_ptr<Handler> handler;
  };

  UniqueFd epoll;
  std::unordered_map<int, Watch> watches;
  std::map<std::pair<Clock::time_point, TimerId>, Task> timers;
  std::unordered_map<TimerId, Clock::time_point> timer_deadlines;
  std::deque<Task> posted;
  struct Child {
    UniqueFd pidfd;
    std::function<void(int)> ended;
  };
  std::unordered_map<pid_t, Child> children;
  UniqueFd child_signals;                     // valid: every child is reaped
  std::deque<std::pair<pid_t, int>> orphans;  // ended and reaped, but not (yet) watched; the newest last
  uint32_t next_generation = 1;
  TimerId next_timer = 1;
  bool stopped = false;

  // Milliseconds for epoll_wait: 0 if something is due, -1 if nothing will be. Rounded up, so that a timer never wakes us early only to
  // sleep again.
  int timeout() const {
    if (!posted.empty() || stopped) return 0;
    if (timers.empty()) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(timers.begin()->first.first - Clock::now()).count();
    return left <= 0 ? 0 : static_cast<int>(std::min<int64_t>(left, 3600 * 1000));
  }

  void run_timers() {
    const auto now = Clock::now();
    while (!stopped && !timers.empty() && timers.begin()->first.first <= now) {
      auto node = timers.extract(timers.begin());
      timer_deadlines.erase(node.key().second);
      node.mapped()();
    }
  }

  // Only what was posted before this turn: a task that posts itself does not starve descriptors.
  void run_posted() {
    for (size_t left = posted.size(); left > 0 && !stopped; --left) {
      Task task = std::move(posted.front());
      posted.pop_front();
      task();
    }
  }

  void dispatch(const epoll_event& event) {
    const int fd = static_cast<int>(event.data.u64 & 0xffffffff);
    auto found = watches.find(fd);
    // The number may have been closed and used again by a handler that ran earlier in this turn.
    if (found == watches.end() || found->second.generation != event.data.u64 >> 32) return;
    auto handler = found->second.handler;
    (*handler)(event.events);
  }
};

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  auto state = std::make_unique<State>();
  state->epoll.reset(epoll_create1(EPOLL_CLOEXEC));
  if (!state->epoll) return errno_error("cannot make an epoll descriptor");
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(state)));
}

EventLoop::EventLoop(std::unique_ptr<State> state) : state_(std::move(state)) {}
// What handlers hold may call back into the loop when it goes: everything is emptied while the loop is still whole.
EventLoop::~EventLoop() {
  state_->children.clear();
  for (int round = 0; round < 100; ++round) {
    auto watches = std::exchange(state_->watches, {});
    auto timers = std::exchange(state_->timers, {});
    auto posted = std::exchange(state_->posted, {});
    if (watches.empty() && timers.empty() && posted.empty()) break;
  }
}

Result<void> EventLoop::add(int fd, uint32_t events, Handler handler) {
  const uint32_t generation = state_->next_generation++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = static_cast<uint64_t>(generation) << 32 | static_cast<uint32_t>(fd);
  if (epoll_ctl(state_->epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) return errno_error("cannot watch descriptor {}", fd);
  state_->watches[fd] = State::Watch{generation, std::make_shared<Handler>(std::move(handler))};
  return {};
}

Result<void> EventLoop::modify(int fd, uint32_t events) {
  auto found = state_->watches.find(fd);
  if (found == state_->watches.end()) return make_error(ENOENT, "descriptor {} is not watched", fd);
  epoll_event event{};
  event.events = events;
  event.data.u64 = static_cast<uint64_t>(found->second.generation) << 32 | static_cast<uint32_t>(fd);
  if (epoll_ctl(state_->epoll.get(), EPOLL_CTL_MOD, fd, &event) != 0) return errno_error("cannot watch descriptor {}", fd);
  return {};
}

void EventLoop::remove(int fd) {
  if (state_->watches.erase(fd) != 0) epoll_ctl(state_->epoll.get(), EPOLL_CTL_DEL, fd, nullptr);
}

EventLoop::TimerId EventLoop::add_timer(Clock::duration delay, Task task) {
  const TimerId id = state_->next_timer++;
  const auto deadline = Clock::now() + delay;
  state_->timers.emplace(std::pair(deadline, id), std::move(task));
  state_->timer_deadlines.emplace(id, deadline);
  return id;
}

void EventLoop::cancel_timer(TimerId id) {
  auto found = state_->timer_deadlines.find(id);
  if (found == state_->timer_deadlines.end()) return;
  state_->timers.erase({found->second, id});
  state_->timer_deadlines.erase(found);
}

void EventLoop::post(Task task) { state_->posted.push_back(std::move(task)); }

Result<void> EventLoop::watch_child(pid_t pid, std::function<void(int wait_status)> ended) {
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) {
    Error failure = errno_error("cannot watch process {}", pid);
    const std::optional<int> status = failure.code() == ESRCH ? take_orphan_status(pid) : std::nullopt;
    if (!status) return failure;
    post([ended = std::move(ended), status] { ended(*status); });
    return {};
  }
  const int fd = pidfd.get();
  // __WALL: a child made by clone(2) may have an exit signal other than SIGCHLD.
  TRY(add(fd, EPOLLIN, [this, pid](uint32_t) {
    int status = 0;
    const pid_t reaped = waitpid(pid, &status, WNOHANG | __WALL);
    if (reaped == 0 || (reaped < 0 && errno == EINTR)) return;
    // Somebody else has reaped it (it is no child of ours any more): its status is lost, which must not be taken for success.
    child_ended(pid, reaped == pid ? status : SIGKILL);
  }));
  state_->children[pid] = State::Child{std::move(pidfd), std::move(ended)};
  return {};
}

void EventLoop::child_ended(pid_t pid, int wait_status) {
  auto node = state_->children.extract(pid);
  if (node.empty()) return;
  remove(node.mapped().pidfd.get());
  node.mapped().ended(wait_status);
}

Result<void> EventLoop::reap_orphans() {
  if (state_->child_signals) return {};
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return errno_error("cannot block SIGCHLD");
  UniqueFd signals(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return errno_error("cannot watch for SIGCHLD");
  TRY(add(signals.get(), EPOLLIN, [this](uint32_t) { reap_children(); }));
  state_->child_signals = std::move(signals);
  // Those that ended before.
  post([this] { reap_children(); });
  return {};
}

void EventLoop::reap_children() {
  signalfd_siginfo info;
  // Signals merge: one may stand for many children, so all are asked for.
  while (read(state_->child_signals.get(), &info, sizeof info) > 0) continue;
  int status = 0;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0;) {
    if (watches_child(pid)) {
      child_ended(pid, status);
      continue;
    }
    state_->orphans.emplace_back(pid, status);
    if (state_->orphans.size() > kMaxOrphans) state_->orphans.pop_front();
  }
}

std::optional<int> EventLoop::take_orphan_status(pid_t pid) {
  auto& orphans = state_->orphans;
  auto found = std::find_if(orphans.rbegin(), orphans.rend(), [pid](const auto& orphan) { return orphan.first == pid; });
  if (found == orphans.rend()) return std::nullopt;
  const int status = found->second;
  orphans.erase(std::next(found).base());
  return status;
}

bool EventLoop::watches_child(pid_t pid) const { return state_->children.contains(pid); }

std::vector<int> EventLoop::descriptors() const {
  std::vector<int> all{state_->epoll.get()};
  for (const auto& [fd, watch] : state_->watches) all.push_back(fd);
  return all;
}

Result<void> EventLoop::run() {
  State& state = *state_;
  std::array<epoll_event, 64> events;
  while (!state.stopped) {
    const int count = epoll_wait(state.epoll.get(), events.data(), static_cast<int>(events.size()), state.timeout());
    if (count < 0 && errno != EINTR) return errno_error("cannot wait for events");
    for (int i = 0; i < count && !state.stopped; ++i) state.dispatch(events[static_cast<size_t>(i)]);
    state.run_timers();
    state.run_posted();
  }
  state.stopped = false;
  return {};
}

void EventLoop::stop() { state_->stopped = true; }

}  // namespace caisson::host
