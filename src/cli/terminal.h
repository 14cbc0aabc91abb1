// Terminals: console sockets, raw mode, and window sizes.
#pragma once

#include <sys/ioctl.h>
#include <termios.h>

#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::cli {

// Connects to an engine's --console-socket.
Result<UniqueFd> connect_console_socket(const std::string& path);

// The pty's master that came over a console socket; waits for it up to 10 s.
Result<UniqueFd> receive_terminal(int socket);

// Puts a terminal into raw mode (cfmakeraw(3)) for its life.
class RawMode {
 public:
  RawMode() = default;
  // Does nothing for what is no terminal.
  explicit RawMode(int fd);
  ~RawMode();
  RawMode(RawMode&& other) noexcept : fd_(other.fd_), saved_(other.saved_) { other.saved_.reset(); }
  RawMode& operator=(RawMode&&) = delete;

 private:
  int fd_ = -1;
  std::optional<termios> saved_;
};

// Window size of the first of our standard streams that is a terminal.
std::optional<winsize> own_window_size();

}  // namespace caisson::cli
