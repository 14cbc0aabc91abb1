#include "cli/streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "rpc/ttrpc.h"

namespace caisson::cli {
namespace {

constexpr uint32_t kFirstPreserved = 3;

bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

}  // namespace

Result<StreamPlan> plan_streams(bool terminal, int console_socket, uint32_t preserve) {
  StreamPlan plan;
  auto add = [&plan](int fd) {
    plan.fds.push_back(fd);
    return static_cast<uint32_t>(plan.fds.size() - 1);
  };
  if (terminal) {
    plan.streams.mutable_terminal()->set_descriptor(add(console_socket));
  } else {
    if (is_open(STDIN_FILENO)) plan.streams.mutable_stdin()->set_descriptor(add(STDIN_FILENO));
    if (is_open(STDOUT_FILENO)) plan.streams.mutable_stdout()->set_descriptor(add(STDOUT_FILENO));
    if (is_open(STDERR_FILENO)) plan.streams.mutable_stderr()->set_descriptor(add(STDERR_FILENO));
  }
  if (preserve > rpc::kMaxDescriptors - plan.fds.size())
    return make_error(EINVAL, "--preserve-fds and LISTEN_FDS: at most {} descriptors can be passed",
                      rpc::kMaxDescriptors - plan.fds.size());
  for (uint32_t fd = kFirstPreserved; fd < kFirstPreserved + preserve; ++fd) {
    if (!is_open(static_cast<int>(fd))) return make_error(EBADF, "--preserve-fds: descriptor {} is not open", fd);
    plan.preserved.push_back(add(static_cast<int>(fd)));
  }
  return plan;
}

uint32_t listen_fds() {
  const char* text = std::getenv("LISTEN_FDS");
  if (text == nullptr) return 0;
  uint32_t count = 0;
  const char* end = text + std::strlen(text);
  auto [stop, failed] = std::from_chars(text, end, count);
  return failed == std::errc() && stop == end ? count : 0;
}

Result<void> check_console(bool terminal, bool foreground, const std::string& console_socket) {
  if (terminal && !foreground && console_socket.empty())
    return Error(EINVAL, "process.terminal is true: cannot allocate a terminal when detaching without --console-socket");
  if (!terminal && !console_socket.empty())
    return Error(EINVAL, "--console-socket needs a process with a terminal, and process.terminal is false");
  return {};
}

}  // namespace caisson::cli
