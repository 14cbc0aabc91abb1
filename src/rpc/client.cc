#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "host/files.h"
#include "rpc/ttrpc.h"

namespace caisson::rpc {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kForever = Clock::time_point::max();

Result<void> wait_for(int fd, short events, Clock::time_point deadline) {
  while (true) {
    int timeout = -1;
    if (deadline != kForever) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
      timeout = left <= 0 ? 0 : static_cast<int>(std::min<int64_t>(left, 1 << 30));
    }
    pollfd wait{fd, events, 0};
    const int ready = poll(&wait, 1, timeout);
    if (ready > 0) return {};
    if (ready == 0) return Error(ETIMEDOUT, "the sandbox did not answer in time");
    if (errno != EINTR) return errno_error("cannot wait for an answer");
  }
}

Error lost(const Error& cause) { return make_error(ECONNRESET, "the connection to the sandbox is lost: {}", cause.message()); }

// Descriptors go with the first byte. Half a frame sent: the stream is of no more use.
Result<void> send_frame(int socket, std::string_view bytes, const std::vector<int>& fds, Clock::time_point deadline, bool& torn) {
  bool first = true;
  while (!bytes.empty()) {
    auto count = host::send_some_with_fds(socket, bytes, first ? fds : std::vector<int>(), MSG_DONTWAIT);
    if (!count && count.error().code() == EAGAIN) {
      TRY(wait_for(socket, POLLOUT, deadline));
      continue;
    }
    if (!count && count.error().code() == EBADF) return std::move(count).error().within("cannot pass a descriptor to the sandbox");
    if (!count) return lost(count.error());
    first = false;
    bytes.remove_prefix(*count);
    torn = !bytes.empty();
  }
  return {};
}

Result<Frame> receive_frame(int socket, FrameDecoder& decoder, Clock::time_point deadline) {
  char buffer[64 << 10];
  while (true) {
    Descriptors unasked;  // answers bring none: closed
    auto count = host::recv_with_fds(socket, buffer, std::min(sizeof buffer, decoder.wanted()), unasked, MSG_DONTWAIT);
    if (!count && count.error().code() == EAGAIN) {
      TRY(wait_for(socket, POLLIN, deadline));
      continue;
    }
    if (!count) return lost(count.error());
    if (*count == 0) return Error(ECONNRESET, "the sandbox has closed the connection");
    auto frame = decoder.feed(std::string_view(buffer, *count));
    if (!frame) return lost(frame.error());
    if (*frame) return std::move(**frame);
  }
}

}  // namespace

Result<Client> Client::connect(const std::string& socket_path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("cannot make a socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path = socket_path;
  UniqueFd folder;
  if (path.size() >= sizeof address.sun_path) {
    // Longer than sun_path holds (unix(7)): by way of its folder's descriptor.
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return make_error(ENAMETOOLONG, "the socket's name {} is too long", socket_path);
    folder.reset(open(path.substr(0, slash + 1).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder) return errno_error("cannot connect to {}", socket_path);
    path = fmt::format("/proc/self/fd/{}/{}", folder.get(), path.substr(slash + 1));
    if (path.size() >= sizeof address.sun_path) return make_error(ENAMETOOLONG, "the socket's name {} is too long", socket_path);
  }
  memcpy(address.sun_path, path.data(), path.size());
  int outcome = -1;
  do outcome = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  while (outcome != 0 && errno == EINTR);
  if (outcome != 0) return errno_error("cannot connect to {}", socket_path);
  return Client(std::move(socket));
}

Result<std::string> Client::call(std::string_view service, std::string_view method, std::string_view payload, const std::vector<int>& fds,
                                 std::chrono::milliseconds timeout) {
  if (!socket_) return Error(ECONNRESET, "the connection to the sandbox is lost");
  if (fds.size() > kMaxDescriptors)
    return make_error(EINVAL, "cannot pass {} descriptors with one call, {} at most", fds.size(), kMaxDescriptors);
  const auto deadline = timeout.count() > 0 ? Clock::now() + timeout : kForever;
  const uint32_t stream = next_stream_;
  next_stream_ += 2;
  const std::string request = TRY(encode_request(stream, service, method, payload, timeout));
  bool torn = false;
  auto sent = send_frame(socket_.get(), request, fds, deadline, torn);
  if (!sent && torn) socket_.reset();
  if (!sent) return std::move(sent).error();
  while (true) {
    auto frame = receive_frame(socket_.get(), decoder_, deadline);
    if (!frame) {
      if (frame.error().code() == ECONNRESET) socket_.reset();
      return std::move(frame).error();
    }
    // Another stream: the late answer of a call that ran out of time.
    if (frame->stream != stream || frame->type != kTypeResponse) continue;
    return decode_response(frame->payload);
  }
}

}  // namespace caisson::rpc
