#include "kernel/control/tenant.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <system_error>
#include <thread>
#include <utility>

#include "kernel.pb.h"
#include "kernel/control/handover.h"
#include "kernel/control/observe.h"
#include "kernel/control/start_process.h"
#include "kernel/klog.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/signal/send.h"
#include "kernel/syscalls/table.h"

namespace caisson::kernel {
namespace {

constexpr int64_t kPatience = 2'000'000'000;  // nanoseconds for what has been killed to end
constexpr size_t kMostEarlySignals = 64;

// EAGAIN: the host gives no thread.
Result<void> run_in_thread(std::function<void()> body) {
  try {
    std::thread(std::move(body)).detach();
  } catch (const std::system_error&) {
    return Errno(EAGAIN);
  }
  return {};
}

}  // namespace

void Household::part(UniqueFd channel) {
  std::erase_if(partings, [](const UniqueFd& fd) {
    pollfd entry{fd.get(), 0, 0};
    return poll(&entry, 1, 0) == 1;  // POLLHUP
  });
  if (channel) partings.push_back(std::move(channel));
}

void Household::see_off() {
  const Deadline patience = Deadline::after(kPatience);
  for (const UniqueFd& fd : partings) {
    pollfd entry{fd.get(), 0, 0};
    while (poll(&entry, 1, static_cast<int>(patience.left() / 1'000'000)) < 0 && errno == EINTR) continue;
  }
}

Tenant::Tenant(Household& house, UniqueFd control, UniqueFd stand_in)
    : house_(house), control_(std::move(control)), stand_in_(std::move(stand_in)) {
  const Result<void> sent = welcome(false);
  if (sent) return;
  klog(LogLevel::Error, "a container cannot be welcomed: %s", strerrordesc_np(sent.error().value));
  stand_in_.reset();
  state_ = State::Gone;
}

Tenant::~Tenant() = default;

Result<void> Tenant::welcome(bool held) {
  const UniqueFd space = TRY(house_.user_namespace());
  std::vector<int> fds;
  if (space) fds.push_back(space.get());
  return send_message(stand_in_.get(), MessageKind::Welcome, held ? 1 : 0, fds);
}

void Tenant::add_descriptors(std::vector<pollfd>& entries) const {
  if (control_) entries.push_back({control_.get(), POLLIN, 0});
  if (stand_in_) entries.push_back({stand_in_.get(), POLLIN, 0});
  for (const auto& [fd, exec] : execs_) entries.push_back({fd, POLLIN, 0});
}

void Tenant::take_from(int fd) {
  if (control_ && fd == control_.get()) return take_request();
  if (stand_in_ && fd == stand_in_.get()) return take_from_stand_in();
  take_exec(fd);
}

void Tenant::take_request() {
  Result<Message> message = receive_message(control_.get());
  if (!message) {
    // The sandbox process has gone; whoever cleans up after it kills us. No more execs.
    control_.reset();
    return;
  }
  std::vector<UniqueFd>& fds = message->fds;
  if (message->kind == MessageKind::SignalAll) return signal_all(message->number);
  if (message->kind == MessageKind::Strace) return strace_configure(message->number != 0);
  if (fds.size() != 1) return;
  if (message->kind == MessageKind::Limits) take_limits(fds[0].get());
  if (message->kind == MessageKind::Ask) answer(fds[0].get(), static_cast<Question>(message->number));
  if (message->kind != MessageKind::Exec || state_ == State::Ending || state_ == State::Gone) return;
  Exec& exec = execs_[fds[0].get()];
  exec.number = message->number;
  exec.socket = std::move(fds[0]);
}

void Tenant::take_limits(int fd) {
  v1::Limits limits;
  const Result<std::string> text = read_description(fd);
  if (!text || !limits.ParseFromString(*text)) return;
  if (container_)
    apply_limits(house_.kernel, *container_, limits);
  else if (begins())
    early_limits_ = *text;
}

void Tenant::answer(int socket, Question question) {
  v1::Processes all;
  if (container()) {
    all = describe_processes(house_.kernel, *container_, question, [&](const ThreadGroup& group) -> std::optional<int> {
      if (container_->init.get() == &group) return 0;
      for (const auto& [fd, exec] : execs_)
        if (exec.process && &exec.process->group() == &group) return exec.number;
      return std::nullopt;
    });
  }
  const Result<UniqueFd> file = make_description("kernel-processes", all.SerializeAsString());
  if (file) (void)send_message(socket, MessageKind::Answer, 0, {file->get()});
}

void Tenant::signal_all(int signal) {
  if (!container()) return;
  std::lock_guard guard(house_.kernel.tasks);
  for (const auto& [pid, group] : container_->pids->groups)
    if (group->container == container_.get()) send_to_group_locked(*group, user_signal(signal, nullptr));
}

void Tenant::deliver(int signal) {
  if (!init_) {
    if (begins() && early_signals_.size() < kMostEarlySignals) early_signals_.push_back(signal);
    return;
  }
  std::lock_guard guard(house_.kernel.tasks);
  send_to_group_locked(init_->group(), user_signal(signal, nullptr));
}

void Tenant::kill_all() {
  std::lock_guard guard(house_.kernel.tasks);
  for (const auto& [pid, group] : container_->pids->groups)
    if (group->container == container_.get() && !group->zombie) end_group_locked(*group, CLD_KILLED, SIGKILL);
}

void Tenant::take_from_stand_in() {
  Result<Message> message = receive_message(stand_in_.get());
  if (!message) {
    // Killed, or gone: so goes what it stands for.
    stand_in_.reset();
    mounts_.clear();
    waits_for_another_.reset();
    if (state_ == State::Awaited) state_ = State::Gone;
    deliver(SIGKILL);
    if (state_ == State::Held) release();
    return;
  }
  if (message->kind == MessageKind::Signal) return deliver(message->number);
  if (message->kind == MessageKind::Begin && state_ == State::Held) return release();
  if (state_ != State::Awaited || waits_for_another_) return;
  Result<void> taken;
  if (message->kind == MessageKind::Mounts) {
    for (UniqueFd& fd : message->fds) mounts_.push_back(std::move(fd));
    if (mounts_.size() > kMostMounts) taken = Errno(EPROTO);
  } else if (message->kind == MessageKind::Container) {
    hold_ = message->number == 1;
    taken = begin(*std::move(message));
  }
  if (!taken) refuse(taken.error());
}

void Tenant::refuse(Errno error) {
  (void)send_message(stand_in_.get(), MessageKind::Failed, error.value);
  house_.part(std::move(stand_in_));
  mounts_.clear();
  state_ = State::Gone;
}

Result<void> Tenant::begin(Message message) {
  return begin_when_others_are_there(std::make_shared<Handover>(TRY(read_handover(std::move(message), std::exchange(mounts_, {})))));
}

Result<void> Tenant::begin_when_others_are_there(const std::shared_ptr<Handover>& all) {
  const v1::Start* start = &all->start;
  const SharedNamespaces shared = house_.shared_namespaces(*start);
  // Who shares processes with what has ended cannot begin. An engine that has started one container creates the next at once, though, when
  // the first one's stand-in may still be at its mounts: who it is will be told.
  if ((!start->pid_of().empty() && !shared.pids) || (!start->ipc_of().empty() && !shared.ipc) ||
      (!start->uts_of().empty() && !shared.uts)) {
    waits_for_another_ = all;  // before the question, whose answer this one is not
    if (house_.somebody_begins()) return {};
    waits_for_another_.reset();
    return Errno(ESRCH);
  }
  waits_for_another_.reset();
  if (start->strace()) strace_configure(true);
  state_ = State::Starting;
  starting_ = std::make_shared<Starting>();
  Kernel& kernel = house_.kernel;
  run_aside(starting_, [&kernel, all, shared](Starting& starting) -> Result<Kernel::Started> {
    std::shared_ptr<StubPool> stubs = TRY(StubPool::adopt(std::move(all->zygote)));
    starting.container = TRY(make_container(kernel, all->start, std::move(all->mounts), shared));
    starting.container->stubs = std::move(stubs);
    return start_with(kernel, *starting.container, all->start.process(), std::move(all->streams));
  });
  return {};
}

void Tenant::run_aside(const std::shared_ptr<Starting>& starting, std::function<Result<Kernel::Started>(Starting&)> body) {
  const auto tell = [starting, event = house_.event](Result<Kernel::Started> result) {
    {
      std::lock_guard guard(starting->lock);
      starting->result.emplace(std::move(result));
    }
    const uint64_t one = 1;
    [[maybe_unused]] ssize_t ignored = write(event, &one, sizeof one);
  };
  ++house_.starting;
  const Result<void> begun = run_in_thread([starting, tell, body = std::move(body)]() mutable {
    Result<Kernel::Started> result = body(*starting);
    body = nullptr;  // what it holds goes before it is told
    tell(std::move(result));
  });
  if (!begun) tell(begun.error());
}

namespace {

std::optional<Result<Kernel::Started>> take_result(Household& house, std::shared_ptr<Starting>& starting) {
  if (!starting) return std::nullopt;
  std::optional<Result<Kernel::Started>> result;
  {
    std::lock_guard guard(starting->lock);
    if (!starting->result) return std::nullopt;
    result = std::move(starting->result);
  }
  --house.starting;
  return result;
}

}  // namespace

void Tenant::settle() {
  if (waits_for_another_)
    if (auto begun = begin_when_others_are_there(std::shared_ptr(waits_for_another_)); !begun) refuse(begun.error());
  settle_start();
  settle_held();
  settle_execs();
  settle_end();
}

void Tenant::settle_start() {
  std::optional<Result<Kernel::Started>> result = take_result(house_, starting_);
  if (!result) return;
  container_ = std::move(starting_->container);
  starting_.reset();
  if (!*result) {
    if (stand_in_) (void)send_message(stand_in_.get(), MessageKind::Failed, result->error().value);
    return leave();
  }
  state_ = State::Held;
  go_ = std::move((*result)->go);
  init_ = std::make_unique<EndWatch>(**result, house_.event);
  v1::Limits limits;
  if (!early_limits_.empty() && limits.ParseFromString(early_limits_)) apply_limits(house_.kernel, *container_, limits);
  for (const int signal : std::exchange(early_signals_, {})) deliver(signal);
  if (!stand_in_) deliver(SIGKILL);
  if (!hold_ || !stand_in_ || !welcome(true)) release();
}

void Tenant::release() {
  state_ = State::Running;
  if (stand_in_) (void)send_message(stand_in_.get(), MessageKind::Started, init_->group().pid);
  std::exchange(go_, nullptr)();
}

// Ended from inside (its PID namespace is another container's, whose first process has ended): it must run to take note of that.
void Tenant::settle_held() {
  if (state_ != State::Held) return;
  bool ended;
  {
    std::lock_guard guard(house_.kernel.tasks);
    ended = init_->group().exiting;
  }
  if (ended) release();
}

void Tenant::begin_exec(Exec& exec, std::vector<UniqueFd> fds) {
  if (begins()) {
    exec.described = std::move(fds);
    return;
  }
  if (!container()) {
    (void)send_message(exec.socket.get(), MessageKind::Failed, ESRCH);
    return;
  }
  exec.starting = std::make_shared<Starting>();
  const auto streams = std::make_shared<std::vector<UniqueFd>>(std::move(fds));
  Kernel& kernel = house_.kernel;
  Container& in = *container_;
  run_aside(exec.starting, [&kernel, &in, streams](Starting&) { return start_described(kernel, in, std::move(*streams)); });
}

void Tenant::take_exec(int fd) {
  const auto found = execs_.find(fd);
  if (found == execs_.end()) return;
  Exec& exec = found->second;
  Result<Message> message = receive_message(fd);
  const auto deliver_to = [&](int signal) {
    if (!exec.process) return;
    std::lock_guard guard(house_.kernel.tasks);
    send_to_group_locked(exec.process->group(), user_signal(signal, nullptr));
  };
  if (!message) {
    // Killed, or gone: so goes what it stands for.
    deliver_to(SIGKILL);
    if (exec.starting)
      exec.socket.reset();
    else
      execs_.erase(found);
    return;
  }
  if (message->kind == MessageKind::Signal) deliver_to(message->number);
  if (message->kind == MessageKind::Process && !exec.process && !exec.starting && exec.described.empty())
    begin_exec(exec, std::move(message->fds));
}

void Tenant::settle_execs() {
  for (auto it = execs_.begin(); it != execs_.end();) {
    Exec& exec = it->second;
    if (!begins() && !exec.described.empty()) begin_exec(exec, std::exchange(exec.described, {}));
    if (std::optional<Result<Kernel::Started>> result = take_result(house_, exec.starting)) {
      exec.starting.reset();
      if (*result) {
        exec.process = std::make_unique<EndWatch>(**result, house_.event);
        if (exec.socket) (void)send_message(exec.socket.get(), MessageKind::Started, (*result)->group->pid);
        if (!exec.socket || !lives()) {
          std::lock_guard guard(house_.kernel.tasks);
          send_to_group_locked(exec.process->group(), user_signal(SIGKILL, nullptr));
        }
        (*result)->go();
      } else {
        if (exec.socket) (void)send_message(exec.socket.get(), MessageKind::Failed, result->error().value);
        house_.part(std::move(exec.socket));
        it = execs_.erase(it);
        continue;
      }
    }
    const std::optional<int> status = exec.process ? exec.process->outcome(house_.kernel) : std::nullopt;
    if (status && exec.socket) (void)send_message(exec.socket.get(), MessageKind::Ended, *status);
    if (status) house_.part(std::move(exec.socket));
    it = status ? execs_.erase(it) : std::next(it);
  }
}

// Its own PID namespace ends with its first process; in a shared one the rest of the container is ended here, as engines expect it.
void Tenant::settle_end() {
  if (state_ == State::Running) {
    const std::optional<int> status = init_ ? init_->outcome(house_.kernel) : std::nullopt;
    if (!status) return;
    status_ = *status;
    state_ = State::Ending;
    patience_ = Deadline::after(kPatience);
    kill_all();
  }
  if (state_ != State::Ending) return;
  bool empty;
  {
    std::lock_guard guard(house_.kernel.tasks);
    empty = container_->groups->tasks == 0;
  }
  for (const auto& [fd, exec] : execs_) empty = empty && !exec.starting;
  if (!empty && patience_.left() > 0) return;
  settle_execs();
  if (stand_in_) (void)send_message(stand_in_.get(), MessageKind::Ended, status_);
  leave();
}

// Gives back what keeps the host from taking the container apart.
void Tenant::leave() {
  state_ = State::Gone;
  house_.part(std::move(stand_in_));
  init_.reset();
  if (!container_) return;
  bool busy;
  {
    std::lock_guard guard(house_.kernel.tasks);
    busy = container_->groups->tasks != 0;
  }
  for (const auto& [fd, exec] : execs_) busy = busy || exec.starting;
  if (busy) return klog(LogLevel::Warning, "container %s: tasks do not end; its files stay open", container_->id.c_str());
  for (auto& [fd, exec] : execs_) house_.part(std::move(exec.socket));
  execs_.clear();
  container_->console.reset();
  container_->root = {};
  container_->mounts.reset();
  // In a container that is paused the zygote does not end before that is over.
  if (!container_->stubs) return;
  if (!run_in_thread([stubs = container_->stubs] { stubs->end(); }))
    klog(LogLevel::Warning, "a zygote is left to the end of its container");
}

bool Tenant::impatient() const {
  if (state_ == State::Ending || (init_ && init_->draining())) return true;
  for (const auto& [fd, exec] : execs_)
    if (exec.process && exec.process->draining()) return true;
  return false;
}

}  // namespace caisson::kernel
