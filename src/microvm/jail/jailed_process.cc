#include "microvm/jail/jailed_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/utf8.h"
#include "host/process.h"

namespace caisson::microvm {
namespace {

constexpr size_t kKept = 8 << 10;
constexpr size_t kLines = 12;

}  // namespace

void append_bounded(std::string& text, std::string_view more, size_t limit) {
  text += more;
  if (text.size() > limit) text.erase(0, text.size() - limit);
}

std::string last_lines(std::string_view text, size_t lines) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  size_t at = text.size();
  for (size_t line = 0; line < lines && at != std::string_view::npos && at > 0; ++line) at = text.rfind('\n', at - 1);
  if (at != std::string_view::npos && at < text.size() && text[at] == '\n') text.remove_prefix(at + 1);
  std::string clean;
  for (const char c : text)
    if (c != '\r') clean += c;
  return printable(clean);
}

Result<std::unique_ptr<JailedProcess>> JailedProcess::create(host::EventLoop& loop, JailSpec spec, Events events) {
  std::unique_ptr<JailedProcess> process(new JailedProcess(loop, spec, std::move(events)));
  int output[2];
  if (pipe2(output, O_CLOEXEC | O_NONBLOCK) != 0) return errno_error("cannot make a pipe");
  process->output_.reset(output[0]);
  UniqueFd writer(output[1]);
  spec.output = writer.get();
  Jailed jailed = TRY(start_jailed(spec));
  process->pid_ = jailed.pid;
  process->pidfd_ = std::move(jailed.pidfd);
  process->control_ = std::move(jailed.control);
  TRY(process->watch());
  return process;
}

Result<void> JailedProcess::watch() {
  auto handler = [this](void (JailedProcess::*member)()) {
    return [this, member, weak = std::weak_ptr(alive_)](uint32_t) {
      if (weak.lock()) (this->*member)();
    };
  };
  TRY(loop_.add(control_.get(), EPOLLIN, handler(&JailedProcess::on_control)));
  TRY(loop_.add(output_.get(), EPOLLIN, handler(&JailedProcess::on_output)));
  return loop_.add(pidfd_.get(), EPOLLIN, handler(&JailedProcess::on_end));
}

JailedProcess::~JailedProcess() {
  alive_.reset();
  kill();
}

Result<void> JailedProcess::go() {
  const char byte = 1;
  if (!control_) return make_error(ESRCH, "cannot start {}: it has ended", what_);
  // EPIPE, ECONNRESET: its preparation has failed; why is on its way to events.failed.
  if (send(control_.get(), &byte, 1, MSG_NOSIGNAL) != 1 && errno != EPIPE && errno != ECONNRESET)
    return errno_error("cannot start {}", what_);
  return {};
}

void JailedProcess::kill() {
  if (pid_ == 0) return;
  (void)host::send_signal(pidfd_.get(), SIGKILL);
  siginfo_t info{};
  while (waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0 && errno == EINTR) {
  }
  forget();
}

// Leaves the loop: nothing will be called any more.
void JailedProcess::forget() {
  for (UniqueFd* fd : {&control_, &output_, &pidfd_}) {
    if (*fd) loop_.remove(fd->get());
    fd->reset();
  }
  pid_ = 0;
}

void JailedProcess::on_control() {
  char bytes[4096];
  const ssize_t count = recv(control_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count > 0) {
    append_bounded(control_text_, {bytes, static_cast<size_t>(count)}, kKept);
    return;
  }
  loop_.remove(control_.get());
  control_.reset();
  if (control_text_.empty()) {
    if (events_.running) events_.running();
    return;
  }
  Error error(EIO, fmt::format("cannot start {}: {}", what_, printable(control_text_)));
  auto failed = std::move(events_.failed);
  kill();
  if (failed) failed(std::move(error));
}

void JailedProcess::on_output() {
  char bytes[4096];
  const ssize_t count = read(output_.get(), bytes, sizeof bytes);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count > 0) return append_bounded(output_text_, {bytes, static_cast<size_t>(count)}, kKept);
  loop_.remove(output_.get());
  output_.reset();
}

void JailedProcess::on_end() {
  siginfo_t info{};
  if (waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0) return;
  // What it printed last may still be in the pipe.
  for (char bytes[4096]; output_;) {
    const ssize_t count = read(output_.get(), bytes, sizeof bytes);
    if (count <= 0) break;
    append_bounded(output_text_, {bytes, static_cast<size_t>(count)}, kKept);
  }
  // The reason for a start that failed may still be unread.
  if (control_) {
    char bytes[4096];
    const ssize_t count = recv(control_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (count > 0) control_text_.append(bytes, static_cast<size_t>(count));
  }
  const int status = info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status;
  auto failed = std::move(events_.failed);
  auto ended = std::move(events_.ended);
  const bool was_running = !control_ || control_text_.empty();
  const std::string reason = control_text_;
  forget();
  if (!was_running && failed) return failed(Error(EIO, fmt::format("cannot start {}: {}", what_, printable(reason))));
  if (ended) ended(status);
}

std::string JailedProcess::output_tail() const { return last_lines(output_text_, kLines); }

}  // namespace caisson::microvm
