#include "sandbox/local/exit_watch.h"

#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/utsname.h>

#include <charconv>
#include <memory>

#include "base/log.h"
#include "host/files.h"
#include "host/process.h"
#include "sandbox/local/exit_events.h"

namespace caisson::sandbox::local {
namespace {

// Field 52 of /proc/<pid>/stat, exit_code, of a process that nobody has reaped yet. The pidfd has told that it has ended, so if there is a
// zombie of that number it is the one.
Result<int> zombie_status(pid_t pid) {
  const std::string text = TRY(host::read_file(fmt::format("/proc/{}/stat", pid), 4096));
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos || text.compare(name_end, 3, ") Z") != 0) return make_error(ESRCH, "process {} is no zombie", pid);
  const size_t last = text.find_last_of(' ');
  int status = 0;
  const auto parsed = std::from_chars(text.data() + last + 1, text.data() + text.size(), status);
  if (parsed.ec != std::errc()) return make_error(EIO, "/proc/{}/stat has an unknown form", pid);
  return status;
}

bool descriptors_tell() {
  static const bool supported = [] {
    utsname name{};
    int major = 0, minor = 0;
    if (uname(&name) != 0 || sscanf(name.release, "%d.%d", &major, &minor) != 2) return false;
    return major > 6 || (major == 6 && minor >= 15);
  }();
  return supported;
}

// Older kernels: the end itself by the descriptor, its status by an event, which comes a moment after that.
class EventWatch : public std::enable_shared_from_this<EventWatch> {
 public:
  EventWatch(host::EventLoop& loop, int pidfd, pid_t pid, ExitEvents events, std::function<void(int)> ended)
      : loop_(loop), pidfd_(pidfd), pid_(pid), events_(std::move(events)), ended_(std::move(ended)) {}

  Result<void> start() {
    TRY(loop_.add(events_.descriptor(), EPOLLIN, [self = shared_from_this()](uint32_t) {
      self->events_.read();
      if (self->has_ended_ && self->events_.status()) self->tell(*self->events_.status());
    }));
    auto added = loop_.add(pidfd_, EPOLLIN, [self = shared_from_this()](uint32_t) { self->process_ended(); });
    if (!added.ok()) loop_.remove(events_.descriptor());
    return added;
  }

 private:
  void process_ended() {
    loop_.remove(pidfd_);
    has_ended_ = true;
    // Not reaped yet: that is exact, whatever came by events.
    if (auto zombie = zombie_status(pid_)) return tell(*zombie);
    events_.read();
    if (events_.status()) return tell(*events_.status());
    timer_ = loop_.add_timer(kEventTime, [self = shared_from_this()] {
      self->timer_ = 0;
      const std::optional<int> guess = self->events_.best_guess();
      if (!guess) log::error("the exit status of process {} is lost; it counts as killed", self->pid_);
      self->tell(guess.value_or(SIGKILL));
    });
  }

  void tell(int status) {
    const auto self = shared_from_this();  // the loop's are the last ones
    loop_.remove(events_.descriptor());
    if (timer_ != 0) loop_.cancel_timer(timer_);
    ended_(status);
  }

  static constexpr auto kEventTime = std::chrono::seconds(1);
  host::EventLoop& loop_;
  const int pidfd_;
  const pid_t pid_;
  ExitEvents events_;
  std::function<void(int)> ended_;
  bool has_ended_ = false;
  uint64_t timer_ = 0;
};

}  // namespace

bool sibling_status_supported() { return descriptors_tell() || ExitEvents::supported(); }

Result<void> watch_child_exit(host::EventLoop& loop, pid_t pid, std::function<void(int)> ended) {
  return loop.watch_child(pid, std::move(ended));
}

Result<void> watch_sibling_exit(host::EventLoop& loop, int pidfd, pid_t pid, std::function<void(int)> ended) {
  if (!descriptors_tell()) {
    ExitEvents events = TRY(ExitEvents::listen(pid));
    return std::make_shared<EventWatch>(loop, pidfd, pid, std::move(events), std::move(ended))->start();
  }
  return loop.add(pidfd, EPOLLIN, [&loop, pidfd, pid, ended = std::move(ended)](uint32_t) {
    loop.remove(pidfd);
    // Reaped already, or still a zombie, which may be reaped between the two questions.
    std::optional<int> status = host::exit_status(pidfd);
    if (!status) {
      if (auto zombie = zombie_status(pid)) status = *zombie;
    }
    if (!status) status = host::exit_status(pidfd);
    if (!status) log::error("the exit status of process {} is lost; it counts as killed", pid);
    ended(status.value_or(SIGKILL));
  });
}

}  // namespace caisson::sandbox::local
