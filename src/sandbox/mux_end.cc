#include "sandbox/mux_end.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/major.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <climits>

namespace caisson::sandbox {
namespace {

// A pty's buffers hold less than this in the kernel (64 KiB of flip buffers and the line discipline's 4 KiB).
constexpr uint64_t kMostInTerminal = 128 << 10;

bool is_pty_master(const struct stat& status) {
  if (!S_ISCHR(status.st_mode)) return false;
  return status.st_rdev == makedev(TTYAUX_MAJOR, 2) ||
         (major(status.st_rdev) >= UNIX98_PTY_MASTER_MAJOR && major(status.st_rdev) < UNIX98_PTY_SLAVE_MAJOR);
}

// The same file in an open file description of our own; invalid where the kernel refuses.
UniqueFd reopen_non_blocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return {};
  return UniqueFd(open(fmt::format("/proc/self/fd/{}", fd).c_str(), (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

}  // namespace

StreamEnd StreamEnd::adopt(UniqueFd fd, Direction direction) {
  StreamEnd end;
  struct stat status = {};
  if (fstat(fd.get(), &status) < 0) return end;
  end.terminal_ = S_ISCHR(status.st_mode) && isatty(fd.get());
  if (S_ISSOCK(status.st_mode)) {
    end.kind_ = Kind::Socket;
  } else if (is_pty_master(status)) {
    if (fcntl(fd.get(), F_SETFL, fcntl(fd.get(), F_GETFL) | O_NONBLOCK) < 0) end.kind_ = Kind::Careful;
  } else if (S_ISFIFO(status.st_mode) || end.terminal_) {
    if (UniqueFd own = reopen_non_blocking(fd.get()); own.valid())
      fd = std::move(own);
    else
      end.kind_ = Kind::Careful;
  } else if (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode) || S_ISDIR(status.st_mode)) {
    end.kind_ = Kind::AlwaysReady;
  } else {
    // /dev/null, /dev/zero: poll(2) says ready at once, epoll_ctl(2) says EPERM. Others (eventfd, /dev/kmsg) can be waited for.
    int flags = fcntl(fd.get(), F_GETFL);
    pollfd poll_fd{fd.get(), static_cast<short>(direction == Direction::Source ? POLLIN : POLLOUT), 0};
    bool memory_device = S_ISCHR(status.st_mode) && major(status.st_rdev) == MEM_MAJOR;
    if (memory_device || poll(&poll_fd, 1, 0) != 0)
      end.kind_ = Kind::AlwaysReady;
    else
      end.kind_ = (flags & O_NONBLOCK) ? Kind::NonBlocking : Kind::Careful;
  }
  end.fd_ = std::move(fd);
  return end;
}

Result<size_t> StreamEnd::read(std::span<char> into) const {
  for (;;) {
    if (kind_ == Kind::Careful) {
      pollfd poll_fd{fd_.get(), POLLIN, 0};
      if (poll(&poll_fd, 1, 0) == 0) return Error(EAGAIN, "");
    }
    ssize_t n =
        kind_ == Kind::Socket ? recv(fd_.get(), into.data(), into.size(), MSG_DONTWAIT) : ::read(fd_.get(), into.data(), into.size());
    if (n >= 0) return static_cast<size_t>(n);
    if (errno == EINTR) continue;
    if (errno == EIO && terminal_) return size_t{0};
    if (errno == ECONNRESET) return size_t{0};
    return Error(errno, "cannot read a stream");
  }
}

Result<size_t> StreamEnd::write(std::string_view bytes) const {
  for (;;) {
    if (kind_ == Kind::Careful) {
      pollfd poll_fd{fd_.get(), POLLOUT, 0};
      if (poll(&poll_fd, 1, 0) == 0) return Error(EAGAIN, "");
      // A pipe that polls writable takes this much without blocking (pipe(7)).
      bytes = bytes.substr(0, PIPE_BUF);
    }
    ssize_t n = kind_ == Kind::Socket ? send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
                                      : ::write(fd_.get(), bytes.data(), bytes.size());
    if (n > 0) return static_cast<size_t>(n);
    if (n == 0) return Error(EIO, "a stream takes no bytes");
    if (errno == EINTR) continue;
    return Error(errno, "cannot write a stream");
  }
}

uint64_t StreamEnd::readable_now() const {
  if (terminal_) return kMostInTerminal;
  int bytes = 0;
  if (ioctl(fd_.get(), FIONREAD, &bytes) == 0 && bytes >= 0) return static_cast<uint64_t>(bytes);
  return kMostInTerminal;
}

void StreamEnd::close(bool shut_down) {
  if (shut_down && fd_.valid()) ::shutdown(fd_.get(), SHUT_WR);
  fd_.reset();
}

}  // namespace caisson::sandbox
