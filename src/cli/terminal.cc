#include "cli/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "host/files.h"

namespace caisson::cli {
namespace {

constexpr int kTerminalTimeoutMs = 10'000;

}  // namespace

Result<UniqueFd> connect_console_socket(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("cannot make a socket");
  // Through a descriptor of its folder, so that the path may be longer than sun_path.
  size_t slash = path.rfind('/');
  std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  UniqueFd dir(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return errno_error("--console-socket {}", path);
  std::string name = fmt::format("/proc/self/fd/{}/{}", dir.get(), path.substr(slash == std::string::npos ? 0 : slash + 1));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.size() >= sizeof address.sun_path) return make_error(ENAMETOOLONG, "--console-socket {}: the file's name is too long", path);
  std::memcpy(address.sun_path, name.c_str(), name.size() + 1);
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return errno_error("cannot connect to --console-socket {}", path);
  return socket;
}

Result<UniqueFd> receive_terminal(int socket) {
  pollfd waiting{.fd = socket, .events = POLLIN, .revents = 0};
  int ready = TEMP_FAILURE_RETRY(poll(&waiting, 1, kTerminalTimeoutMs));
  if (ready < 0) return errno_error("cannot wait for the terminal");
  if (ready == 0) return Error(ETIMEDOUT, "the sandbox did not hand over the terminal within 10 s");
  char name[4096];
  std::vector<UniqueFd> fds;
  TRY(host::recv_with_fds(socket, name, sizeof name, fds));
  if (fds.size() != 1) return make_error(EPROTO, "the sandbox sent {} descriptors where it should send a terminal", fds.size());
  return std::move(fds.front());
}

RawMode::RawMode(int fd) : fd_(fd) {
  termios mode{};
  if (tcgetattr(fd, &mode) != 0) return;
  saved_ = mode;
  cfmakeraw(&mode);
  tcsetattr(fd, TCSADRAIN, &mode);
}

RawMode::~RawMode() {
  if (saved_) tcsetattr(fd_, TCSADRAIN, &*saved_);
}

std::optional<winsize> own_window_size() {
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    winsize size{};
    if (ioctl(fd, TIOCGWINSZ, &size) == 0) return size;
  }
  return std::nullopt;
}

}  // namespace caisson::cli
