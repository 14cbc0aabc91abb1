#include "host/worker.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "base/log.h"
#include "host/files.h"
#include "host/process.h"

namespace caisson::host {
namespace {

// First what came of the work, then payload_bytes of payload or of the error's message.
struct Header {
  uint64_t payload_bytes = 0;
  int32_t error_code = 0;  // 0: success
  uint32_t descriptors = 0;
};

void send_outcome(int socket, Result<WorkerOutput> outcome) {
  Header header;
  std::string payload;
  std::vector<int> fds;
  if (outcome && outcome->fds.size() > 64)
    outcome = make_error(E2BIG, "a worker has {} descriptors to hand back, more than 64", outcome->fds.size());
  if (outcome) {
    payload = std::move(outcome->payload);
    for (const UniqueFd& fd : outcome->fds) fds.push_back(fd.get());
  } else {
    header.error_code = outcome.error().code();
    payload = outcome.error().message();
  }
  header.payload_bytes = payload.size();
  header.descriptors = static_cast<uint32_t>(fds.size());
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += payload;
  // A parent that has gone needs no answer.
  (void)send_with_fds(socket, bytes, fds);
}

void close_others(const EventLoop& loop, const WorkerOptions& options, int socket) {
  if (!options.keep_fds) {
    for (int fd : loop.descriptors()) close(fd);
    return;
  }
  std::vector<int> keep = *options.keep_fds;
  keep.insert(keep.end(), {0, 1, 2, socket, log::descriptor()});
  std::sort(keep.begin(), keep.end());
  int next = 0;
  for (int fd : keep) {
    if (fd > next) close_range(static_cast<unsigned>(next), static_cast<unsigned>(fd) - 1, 0);
    next = std::max(next, fd + 1);
  }
  close_range(static_cast<unsigned>(next), ~0U, 0);
}

// One worker from its fork to its end. Kept alive by the handlers that the loop holds for it.
class Worker : public std::enable_shared_from_this<Worker> {
 public:
  Worker(EventLoop& loop, WorkerOptions options, std::function<void(Result<WorkerOutput>)> done)
      : loop_(loop), options_(std::move(options)), done_(std::move(done)) {}

  // The error of a fork that failed. Does not return in the child.
  Result<void> start(const std::function<Result<WorkerOutput>()>& work) {
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) return errno_error("cannot make a socket pair for a worker");
    socket_.reset(sockets[0]);
    UniqueFd theirs(sockets[1]);
    int pidfd = -1;
    // Not fork(3): it has no CLONE_PARENT. There is one thread, so no lock of malloc's can be held.
    const unsigned long flags = CLONE_PIDFD | (options_.sibling ? CLONE_PARENT : 0) | SIGCHLD;
    const pid_t parent = getpid();
    const long pid = syscall(SYS_clone, flags, nullptr, &pidfd, nullptr, 0);
    if (pid < 0) return errno_error("cannot fork a worker");
    if (pid == 0) run_child(parent, theirs.get(), work);
    pid_ = static_cast<pid_t>(pid);
    pidfd_.reset(pidfd);
    auto self = shared_from_this();
    TRY(loop_.add(socket_.get(), EPOLLIN, [self](uint32_t) { self->receive(); }));
    TRY(loop_.add(pidfd_.get(), EPOLLIN, [self](uint32_t) { self->ended(); }));
    if (options_.deadline.count() > 0) timer_ = loop_.add_timer(options_.deadline, [self] { self->expired(); });
    return {};
  }

  // Tells done, once.
  void finish(Result<WorkerOutput> outcome) {
    if (!done_) return;
    stop_listening();
    auto done = std::move(done_);
    done_ = nullptr;
    done(std::move(outcome));
  }

  void cancel() {
    if (!done_) return;
    kill_now();
    loop_.post([self = shared_from_this()] { self->finish(Error(ECANCELED, "a worker process was stopped")); });
  }

  // Stops what start() had begun before it failed.
  void abandon() {
    stop_listening();
    if (pidfd_) {
      kill_now();
      loop_.remove(pidfd_.get());
      reap(0);
    }
  }

 private:
  [[noreturn]] void run_child(pid_t parent, int socket, const std::function<Result<WorkerOutput>()>& work) {
    if (!options_.sibling) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);  // it died before prctl
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    close_others(loop_, options_, socket);
    send_outcome(socket, work());
    // No destructor of the parent's objects, no atexit handler.
    _exit(0);
  }

  void receive() {
    auto self = shared_from_this();
    while (done_) {
      char buffer[64 << 10];
      auto count = recv_with_fds(socket_.get(), buffer, sizeof buffer, fds_, MSG_DONTWAIT);
      if (!count && count.error().code() == EAGAIN) return;
      if (!count) return finish(std::move(count).error().within("a worker's result is lost"));
      if (*count == 0) return stop_listening();  // ended() will tell how it died
      bytes_.append(buffer, *count);
      if (complete()) return;
    }
  }

  bool complete() {
    Header header;
    if (bytes_.size() < sizeof header) return false;
    memcpy(&header, bytes_.data(), sizeof header);
    if (bytes_.size() - sizeof header < header.payload_bytes) return false;
    std::string payload = bytes_.substr(sizeof header);
    bytes_.clear();
    if (header.error_code != 0) {
      finish(Error(header.error_code, std::move(payload)));
    } else if (fds_.size() != header.descriptors) {
      finish(make_error(EMFILE, "{} of the {} descriptors of a worker's result are lost; is the limit of open files too low?",
                        header.descriptors - fds_.size(), header.descriptors));
    } else {
      finish(WorkerOutput{std::move(payload), std::move(fds_)});
    }
    return true;
  }

  void ended() {
    auto self = shared_from_this();
    loop_.remove(pidfd_.get());
    if (socket_) receive();  // what it sent last may still be in the socket
    const std::string how = reap(WNOHANG);
    pidfd_.reset();
    finish(make_error(EIO, "a worker process {} before it gave a result", how));
  }

  std::string reap(int flags) {
    if (options_.sibling) return "died";  // its parent, not we, reaps it
    siginfo_t info{};
    if (waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | flags) == 0 && info.si_pid != 0) {
      if (info.si_code == CLD_EXITED) return fmt::format("exited with status {}", info.si_status);
      return fmt::format("was killed by signal {} ({})", info.si_status, strsignal(info.si_status));
    }
    const std::optional<int> status = loop_.take_orphan_status(pid_);  // the loop was faster
    return status ? describe_exit(*status) : "died";
  }

  void kill_now() {
    if (pidfd_) syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  }

  void expired() {
    timer_ = 0;
    kill_now();
    finish(make_error(ETIMEDOUT, "a worker process was not done after {} ms and has been killed", options_.deadline.count()));
  }

  void stop_listening() {
    if (timer_ != 0) loop_.cancel_timer(timer_);
    timer_ = 0;
    if (socket_) loop_.remove(socket_.get());
    socket_.reset();
  }

  EventLoop& loop_;
  WorkerOptions options_;
  std::function<void(Result<WorkerOutput>)> done_;
  UniqueFd socket_;
  UniqueFd pidfd_;
  pid_t pid_ = 0;
  std::string bytes_;
  std::vector<UniqueFd> fds_;
  EventLoop::TimerId timer_ = 0;
};

}  // namespace

std::function<void()> run_worker(EventLoop& loop, WorkerOptions options, std::function<Result<WorkerOutput>()> work,
                                 std::function<void(Result<WorkerOutput>)> done) {
  auto worker = std::make_shared<Worker>(loop, std::move(options), std::move(done));
  auto started = worker->start(work);
  if (started)
    return [weak = std::weak_ptr<Worker>(worker)] {
      if (auto running = weak.lock()) running->cancel();
    };
  worker->abandon();
  // Not from here: the caller may not expect done before run_worker has returned.
  loop.post([worker, error = std::move(started).error()]() mutable { worker->finish(std::move(error)); });
  return [] {};
}

}  // namespace caisson::host
