#include "sandbox/name_frames.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <utility>

namespace caisson::sandbox {
namespace {

constexpr size_t kFrameHeaderBytes = 5;
constexpr size_t kMostWaiting = 256 << 10;
constexpr size_t kReadBytes = 64 << 10;

uint16_t number_at(std::string_view bytes, size_t at) {
  return static_cast<uint16_t>(static_cast<uint8_t>(bytes[at]) | static_cast<uint8_t>(bytes[at + 1]) << 8);
}

void put_number(std::string& to, size_t number) {
  to += static_cast<char>(number & 0xff);
  to += static_cast<char>(number >> 8 & 0xff);
}

}  // namespace

std::string pack_name_frame(const NameFrame& frame) {
  std::string bytes;
  bytes.reserve(kFrameHeaderBytes + frame.message.size());
  put_number(bytes, frame.message.size());
  put_number(bytes, frame.key);
  bytes += static_cast<char>(frame.tcp ? 1 : 0);
  return bytes + frame.message;
}

Result<std::optional<NameFrame>> NameFrameReader::next() {
  if (buffer_.size() < kFrameHeaderBytes) return std::optional<NameFrame>();
  const size_t length = number_at(buffer_, 0);
  if (length < kDnsHeaderBytes) return make_error(EPROTO, "a DNS message of {} bytes is too short for its header", length);
  const auto transport = static_cast<uint8_t>(buffer_[4]);
  if (transport > 1) return make_error(EPROTO, "a DNS message came by the unknown transport {}", transport);
  if (buffer_.size() < kFrameHeaderBytes + length) return std::optional<NameFrame>();
  NameFrame frame{.key = number_at(buffer_, 2), .tcp = transport == 1, .message = buffer_.substr(kFrameHeaderBytes, length)};
  buffer_.erase(0, kFrameHeaderBytes + length);
  return std::optional<NameFrame>(std::move(frame));
}

NameChannel::NameChannel(host::EventLoop& loop, UniqueFd socket, std::function<void(NameFrame)> received, std::function<void()> ended)
    : loop_(loop), socket_(std::move(socket)), received_(std::move(received)), ended_(std::move(ended)) {}

Result<std::unique_ptr<NameChannel>> NameChannel::create(host::EventLoop& loop, UniqueFd socket, std::function<void(NameFrame)> received,
                                                         std::function<void()> ended) {
  std::unique_ptr<NameChannel> channel(new NameChannel(loop, std::move(socket), std::move(received), std::move(ended)));
  TRY(loop.add(channel->socket_.get(), EPOLLIN, [self = channel.get()](uint32_t events) { self->on_events(events); }));
  return channel;
}

NameChannel::~NameChannel() {
  *alive_ = false;
  if (socket_) loop_.remove(socket_.get());
}

bool NameChannel::send(const NameFrame& frame) {
  if (!socket_ || frame.message.size() < kDnsHeaderBytes || frame.message.size() > UINT16_MAX) return false;
  if (waiting_.size() + frame.message.size() > kMostWaiting) return false;
  waiting_ += pack_name_frame(frame);
  // What breaks here is seen by the loop as well.
  (void)write_some();
  return true;
}

void NameChannel::on_events(uint32_t events) {
  const auto alive = alive_;
  if ((events & EPOLLOUT) != 0 && !write_some()) return end();
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
  const bool more = read_some();
  if (*alive && !more) end();
}

// False: it is the end.
bool NameChannel::read_some() {
  char buffer[kReadBytes];
  const ssize_t got = recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  reader_.add({buffer, static_cast<size_t>(got)});
  const auto alive = alive_;
  while (*alive) {
    auto frame = reader_.next();
    if (!frame.ok()) return false;
    if (!*frame) return true;
    received_(std::move(**frame));
  }
  return true;
}

bool NameChannel::write_some() {
  while (!waiting_.empty()) {
    const ssize_t sent = ::send(socket_.get(), waiting_.data(), waiting_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent < 0) break;
    waiting_.erase(0, static_cast<size_t>(sent));
  }
  const bool wanted = !waiting_.empty();
  if (std::exchange(writes_watched_, wanted) != wanted)
    return loop_.modify(socket_.get(), wanted ? uint32_t{EPOLLIN} | EPOLLOUT : uint32_t{EPOLLIN}).ok();
  return true;
}

void NameChannel::end() {
  if (!socket_) return;
  loop_.remove(socket_.get());
  socket_.reset();
  std::exchange(ended_, nullptr)();
}

}  // namespace caisson::sandbox
