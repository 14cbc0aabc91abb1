#include "cli/foreground.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/async_call.h"
#include "cli/lifecycle.h"
#include "cli/relay.h"
#include "host/event_loop.h"
#include "sandbox/client.h"

namespace caisson::cli {
namespace {

namespace v1 = sandbox::v1;

constexpr int kSandboxGone = 137;

class Foreground {
 public:
  Foreground(ForegroundRequest request, host::EventLoop& loop, UniqueFd socket)
      : request_(std::move(request)), loop_(loop), client_(loop, std::move(socket), [this] { lost(); }) {}
  ~Foreground() {
    if (signals_) {
      loop_.remove(signals_.get());
      sigprocmask(SIG_SETMASK, &saved_mask_, nullptr);
    }
  }
  Foreground(const Foreground&) = delete;
  Foreground& operator=(const Foreground&) = delete;

  Result<int> run() {
    TRY(take_signals());
    bool relayed = request_.terminal.valid();
    if (relayed) {
      relay_ = TRY(Relay::create(loop_, std::move(request_.terminal)));
      resize();
    }
    if (request_.start) {
      start();
    } else {
      wait();
    }
    TRY(loop_.run());
    if (failure_) return std::move(*failure_);
    return status_;
  }

 private:
  Result<void> take_signals() {
    sigset_t set;
    sigfillset(&set);
    // Not for the process: stopping and children are our own business, and faults are ours too.
    for (int signal : {SIGCHLD, SIGPIPE, SIGURG, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU})
      sigdelset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, &saved_mask_);
    signal(SIGPIPE, SIG_IGN);
    signals_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_) return errno_error("signalfd");
    return loop_.add(signals_.get(), EPOLLIN, [this](uint32_t) { pass_signals_on(); });
  }

  void pass_signals_on() {
    signalfd_siginfo info{};
    while (read(signals_.get(), &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGWINCH) {
        resize();
        continue;
      }
      v1::SignalProcessRequest request;
      request.set_container_id(request_.container_id);
      request.set_exec_id(request_.exec_id);
      request.set_signal(static_cast<int>(info.ssi_signo));
      call_sandbox<v1::SignalProcessResponse>(client_, "SignalProcess", request, std::chrono::seconds(30),
                                              [](Result<v1::SignalProcessResponse>) {});
    }
  }

  // The pty itself, and by a call for a process whose terminal is in another kernel.
  void resize() {
    if (!relay_ || !relay_->resize()) return;
    std::optional<winsize> size = own_window_size();
    if (!size) return;
    v1::ResizePtyRequest request;
    request.set_container_id(request_.container_id);
    request.set_exec_id(request_.exec_id);
    request.set_rows(size->ws_row);
    request.set_columns(size->ws_col);
    call_sandbox<v1::ResizePtyResponse>(client_, "ResizePty", request, std::chrono::seconds(30), [](Result<v1::ResizePtyResponse>) {});
  }

  void start() {
    v1::StartContainerRequest request;
    request.set_container_id(request_.container_id);
    call_sandbox<v1::StartContainerResponse>(client_, "StartContainer", request, kHookTimeout,
                                             [this](Result<v1::StartContainerResponse> response) {
                                               if (!response.ok()) return fail(std::move(response).error());
                                               wait();
                                             });
  }

  void wait() {
    v1::WaitProcessRequest request;
    request.set_container_id(request_.container_id);
    request.set_exec_id(request_.exec_id);
    call_sandbox<v1::WaitProcessResponse>(client_, "WaitProcess", request, {}, [this](Result<v1::WaitProcessResponse> response) {
      if (!response.ok()) return fail(std::move(response).error());
      status_ = response->exit_status() & 0xff;
      if (!relay_) return loop_.stop();
      relay_->finish([this] { loop_.stop(); });
    });
  }

  void fail(Error error) {
    if (error.code() == ECONNRESET) return lost();
    failure_ = std::move(error);
    loop_.stop();
  }

  // The sandbox has gone, and the process with it: as if killed.
  void lost() {
    if (!lost_) log::error("the sandbox process of {} has ended unexpectedly", request_.container_id);
    lost_ = true;
    status_ = kSandboxGone;
    loop_.stop();
  }

  ForegroundRequest request_;
  host::EventLoop& loop_;
  rpc::AsyncClient client_;
  UniqueFd signals_;
  sigset_t saved_mask_{};
  std::unique_ptr<Relay> relay_;
  int status_ = 0;
  bool lost_ = false;
  std::optional<Error> failure_;
};

}  // namespace

Result<int> run_in_foreground(ForegroundRequest request) {
  sandbox::SandboxClient client = TRY(sandbox::SandboxClient::connect(request.socket));
  UniqueFd socket(fcntl(client.fd(), F_DUPFD_CLOEXEC, 3));
  if (!socket) return errno_error("cannot duplicate a descriptor");
  std::unique_ptr<host::EventLoop> loop = TRY(host::EventLoop::create());
  Foreground foreground(std::move(request), *loop, std::move(socket));
  return foreground.run();
}

}  // namespace caisson::cli
