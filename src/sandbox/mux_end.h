// The local ends of a multiplexer's channels: a descriptor that is read, or one that is written, never blocking the event loop, and without
// changing what other holders of the same open file see.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::sandbox {

// One direction of a local descriptor.
class StreamEnd {
 public:
  enum class Direction { Source, Sink };

  StreamEnd() = default;
  // Owned. Pipes, fifos and terminals are opened again through /proc/self/fd, so that O_NONBLOCK is ours alone; a pty's master is made
  // non-blocking itself (opening it again would make another pty); sockets get MSG_DONTWAIT; what poll(2) does not support (regular files,
  // /dev/null) is used as it is.
  static StreamEnd adopt(UniqueFd fd, Direction direction);

  bool valid() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }
  // False for what epoll refuses: always ready.
  bool pollable() const { return kind_ != Kind::AlwaysReady; }

  // Bytes read; 0 at the end of file. EAGAIN: nothing now. A terminal whose other side is closed is at its end.
  Result<size_t> read(std::span<char> into) const;
  // Bytes written, at least one. EAGAIN: no room now. EPIPE and others: the reader has gone.
  Result<size_t> write(std::string_view bytes) const;
  // An upper bound of what can be read now, if nobody writes any more.
  uint64_t readable_now() const;

  // Closes. shut_down: also ends this direction of the socket for every holder.
  void close(bool shut_down = false);

 private:
  enum class Kind { NonBlocking, Socket, AlwaysReady, Careful };
  UniqueFd fd_;
  Kind kind_ = Kind::NonBlocking;
  bool terminal_ = false;
};

}  // namespace caisson::sandbox
