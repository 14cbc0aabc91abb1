#include "appkernel/kernel_log.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

#include "base/log.h"

namespace caisson::appkernel {
namespace {

constexpr size_t kPiece = 64 << 10, kMostLine = 4096;
constexpr int64_t kLeast = 64;  // what the shortest line counts for: each is a write(2)
constexpr int kRoom = 1 << 20;  // of the pipe, where the host lets us have it
constexpr int kMostPieces = 4;  // of one turn: other work is waiting
constexpr std::string_view kBegin = "kernel: ";

// Lines come whole, by one write each, so that they do not mix with those of this process's workers. What it counts for.
int64_t put(std::string_view line) {
  std::string whole(line.starts_with(kBegin) ? "" : kBegin);
  whole += line;
  for (char& each : whole)
    if (static_cast<unsigned char>(each) < 0x20 || each == 0x7f) each = '?';
  whole += '\n';
  if (log::descriptor() >= 0) (void)!::write(log::descriptor(), whole.data(), whole.size());
  return std::max<int64_t>(static_cast<int64_t>(whole.size()), kLeast);
}

}  // namespace

Result<UniqueFd> KernelLog::open(std::string id) {
  id_ = std::move(id);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return errno_error("cannot make a pipe for the application kernel's log");
  pipe_.reset(ends[0]);
  UniqueFd theirs(ends[1]);
  (void)fcntl(pipe_.get(), F_SETPIPE_SZ, kRoom);
  TRY(loop_.add(pipe_.get(), EPOLLIN, [this](uint32_t) {
    for (int i = 0; i < kMostPieces && take(); ++i) continue;
  }));
  return theirs;
}

KernelLog::~KernelLog() {
  drain();
  close();
}

void KernelLog::drain() {
  while (take()) continue;
}

bool KernelLog::take() {
  if (!pipe_) return false;
  static std::array<char, kPiece> piece;
  const ssize_t got = read(pipe_.get(), piece.data(), piece.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got > 0) {
    add({piece.data(), static_cast<size_t>(got)});
    if (left_ > 0) return true;
    log::warning("the application kernel of container {} writes more to its log than it should: nothing more of it is logged", id_);
  }
  close();
  return false;
}

void KernelLog::add(std::string_view text) {
  while (!text.empty()) {
    const size_t end = text.find('\n'), size = std::min({end, text.size(), kMostLine - line_.size()});
    line_.append(text.substr(0, size));
    text.remove_prefix(size == end ? size + 1 : size);
    if (size != end && line_.size() < kMostLine) continue;
    left_ -= put(line_);
    line_.clear();
    if (left_ <= 0) return;
  }
}

void KernelLog::close() {
  if (!pipe_) return;
  if (!line_.empty()) put(line_);
  line_.clear();
  loop_.remove(pipe_.get());
  pipe_.reset();
}

}  // namespace caisson::appkernel
