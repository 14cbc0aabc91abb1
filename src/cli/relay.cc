#include "cli/relay.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

namespace caisson::cli {
namespace {

// What one write to a pipe that polls writable takes without blocking (pipe(7)); also what a pty gives at once.
constexpr size_t kChunk = 4096;
constexpr size_t kMaxPending = 64 << 10;
// Ctrl-D: what ends the input of a program that reads lines from a terminal.
constexpr char kEndOfTransmission = 4;
// Chunks of 64 KiB before signals and input get their turn.
constexpr int kRounds = 16;
constexpr std::chrono::milliseconds kQuietRetry{20};

}  // namespace

Result<std::unique_ptr<Relay>> Relay::create(host::EventLoop& loop, UniqueFd master) {
  std::unique_ptr<Relay> relay(new Relay(loop, std::move(master)));
  TRY(relay->start());
  return relay;
}

Result<void> Relay::start() {
  int flags = fcntl(master_.get(), F_GETFL);
  if (flags < 0 || fcntl(master_.get(), F_SETFL, flags | O_NONBLOCK) != 0) return errno_error("the terminal");
  raw_.emplace(STDIN_FILENO);
  resize();
  watch_master();
  Result<void> input = loop_.add(STDIN_FILENO, EPOLLIN, [this](uint32_t) { read_input(); });
  input_watched_ = input.ok();
  // An ordinary file cannot be polled (epoll_ctl(2), EPERM) and never blocks: it is read as fast as the terminal takes it. A closed
  // descriptor has ended.
  if (!input_watched_ && input.error().code() == EPERM) {
    loop_.post([this] { read_input(); });
  } else if (!input_watched_) {
    input_open_ = false;
  }
  return {};
}

Relay::~Relay() {
  if (input_watched_) loop_.remove(STDIN_FILENO);
  if (output_watched_) loop_.remove(STDOUT_FILENO);
  if (master_events_ != 0) loop_.remove(master_.get());
  if (retry_ != 0) loop_.cancel_timer(retry_);
}

bool Relay::resize() {
  std::optional<winsize> size = own_window_size();
  if (size) ioctl(master_.get(), TIOCSWINSZ, &*size);
  return size.has_value();
}

void Relay::on_master(uint32_t events) {
  if (events & EPOLLOUT) write_input();
  if (events & ~static_cast<uint32_t>(EPOLLOUT)) pump_output();
}

void Relay::read_input() {
  if (!input_open_ || to_master_.size() >= kMaxPending) return;
  char buffer[kChunk];
  ssize_t length = read(STDIN_FILENO, buffer, sizeof buffer);
  if (length < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (length <= 0) return end_input();
  to_master_.append(buffer, static_cast<size_t>(length));
  write_input();
}

void Relay::end_input() {
  input_open_ = false;
  if (input_watched_) loop_.remove(STDIN_FILENO);
  input_watched_ = false;
  to_master_.push_back(kEndOfTransmission);
  write_input();
}

void Relay::write_input() {
  while (!to_master_.empty()) {
    ssize_t length = write(master_.get(), to_master_.data(), to_master_.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == EAGAIN) break;
    if (length <= 0) {
      to_master_.clear();
      break;
    }
    to_master_.erase(0, static_cast<size_t>(length));
  }
  watch();
  if (input_open_ && !input_watched_ && to_master_.empty()) loop_.post([this] { read_input(); });
}

void Relay::pump_output() {
  for (int round = 0; round < kRounds || done_; ++round) {
    bool more = read_output();
    bool flushed = write_output();
    if (!more || !flushed) break;
  }
  watch();
  if (done_ && master_ended_ && to_output_.empty()) std::exchange(done_, {})();
}

// Reads until enough is pending. False: there is nothing more just now.
bool Relay::read_output() {
  if (master_ended_) return false;
  while (to_output_.size() < kMaxPending) {
    char buffer[kChunk];
    ssize_t length = read(master_.get(), buffer, sizeof buffer);
    if (length > 0) {
      to_output_.append(buffer, static_cast<size_t>(length));
      continue;
    }
    if (length < 0 && errno == EINTR) continue;
    // EIO: nobody has the other side open, which may change while the process lives. After its end, whatever more comes is from those that
    // it left behind.
    bool empty = length < 0 && errno == EAGAIN;
    master_ended_ = static_cast<bool>(done_);
    master_quiet_ = !empty && !master_ended_;
    return false;
  }
  return true;
}

// Writes until nothing is pending (true), or until standard output is full.
bool Relay::write_output() {
  while (!to_output_.empty()) {
    pollfd waiting{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
    if (poll(&waiting, 1, 0) == 0) return false;
    ssize_t length = write(STDOUT_FILENO, to_output_.data(), std::min(to_output_.size(), kChunk));
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == EAGAIN) return false;
    if (length <= 0) {
      to_output_.clear();  // nobody reads it
      return true;
    }
    to_output_.erase(0, static_cast<size_t>(length));
  }
  return true;
}

void Relay::watch() {
  if (!to_output_.empty() && !output_watched_) {
    output_watched_ = loop_.add(STDOUT_FILENO, EPOLLOUT, [this](uint32_t) { pump_output(); }).ok();
    if (!output_watched_) to_output_.clear();  // closed
  } else if (to_output_.empty() && output_watched_) {
    loop_.remove(STDOUT_FILENO);
    output_watched_ = false;
  }
  watch_master();
}

void Relay::watch_master() {
  uint32_t wanted = (to_output_.size() < kMaxPending ? EPOLLIN : 0U) | (to_master_.empty() ? 0U : EPOLLOUT);
  // A pty without another side polls as hung up for ever: look again later instead.
  if (master_quiet_ || master_ended_) wanted = 0;
  if (master_quiet_ && retry_ == 0) {
    retry_ = loop_.add_timer(kQuietRetry, [this] {
      retry_ = 0;
      master_quiet_ = false;
      watch_master();
    });
  }
  if (wanted == master_events_) return;
  if (wanted == 0) {
    loop_.remove(master_.get());
  } else if (master_events_ == 0) {
    if (!loop_.add(master_.get(), wanted, [this](uint32_t events) { on_master(events); }).ok()) wanted = 0;
  } else if (!loop_.modify(master_.get(), wanted).ok()) {
    wanted = 0;
  }
  master_events_ = wanted;
}

void Relay::finish(std::function<void()> done) {
  done_ = std::move(done);
  pump_output();
}

}  // namespace caisson::cli
