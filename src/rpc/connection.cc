#include "rpc/connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "host/files.h"

namespace caisson::rpc {
namespace {

// Reads for one long frame before other connections get their turn.
constexpr int kReadsPerTurn = 16;

}  // namespace

Result<std::shared_ptr<Connection>> Connection::create(host::EventLoop& loop, UniqueFd socket, Events events) {
  std::shared_ptr<Connection> connection(new Connection(loop, std::move(socket), std::move(events)));
  std::weak_ptr<Connection> weak = connection;
  TRY(loop.add(connection->socket_.get(), EPOLLIN, [weak](uint32_t ready) {
    if (auto self = weak.lock()) self->ready(ready);
  }));
  return connection;
}

Connection::~Connection() { close(); }

void Connection::close() {
  if (!socket_) return;
  if (!failed_) (void)flush();
  loop_.remove(socket_.get());
  socket_.reset();
  fds_.clear();
}

void Connection::send(std::string frame) {
  if (!socket_ || failed_) return;
  if (output_.empty()) {
    output_ = std::move(frame);
  } else {
    output_.append(frame);
  }
  auto flushed = waiting_for_room_ ? Result<bool>(false) : flush();
  if (!flushed) return fail(flushed.error());
  if (output_.size() - sent_ > kMaxQueuedBytes) return fail(make_error(ENOBUFS, "the peer does not read its answers"));
}

Result<bool> Connection::flush() {
  while (sent_ < output_.size()) {
    const ssize_t count = ::send(socket_.get(), output_.data() + sent_, output_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) {
      if (!waiting_for_room_) TRY(loop_.modify(socket_.get(), EPOLLIN | EPOLLOUT));
      waiting_for_room_ = true;
      // What has gone is dropped now and then, not with every call: that would be quadratic.
      if (sent_ > output_.size() / 2) output_.erase(0, std::exchange(sent_, 0));
      return false;
    }
    if (count < 0) return errno_error("cannot send to the peer");
    sent_ += static_cast<size_t>(count);
  }
  output_.clear();
  sent_ = 0;
  if (waiting_for_room_) TRY(loop_.modify(socket_.get(), EPOLLIN));
  waiting_for_room_ = false;
  return true;
}

void Connection::ready(uint32_t events) {
  auto self = shared_from_this();
  if (!socket_ || failed_) return;
  if ((events & EPOLLOUT) != 0) {
    if (auto flushed = flush(); !flushed) return fail(flushed.error());
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) receive();
}

// One frame at most: if there are more, the loop comes back, after others have had their turn.
void Connection::receive() {
  for (int reads = 0; reads < kReadsPerTurn; ++reads) {
    auto more = receive_some();
    if (!more) return fail(more.error());
    if (!*more) return;
  }
}

// False: nothing more to read now, or a frame has been handled.
Result<bool> Connection::receive_some() {
  char buffer[64 << 10];
  auto count = host::recv_with_fds(socket_.get(), buffer, std::min(sizeof buffer, decoder_.wanted()), fds_, MSG_DONTWAIT);
  if (!count && count.error().code() == EAGAIN) return false;
  if (!count) return std::move(count).error();
  if (*count == 0) {
    if (decoder_.partial()) return make_error(ECONNRESET, "the peer closed the connection in the middle of a frame");
    return make_error(ECONNRESET, "the peer closed the connection");
  }
  if (fds_.size() > kMaxDescriptors) return make_error(EPROTO, "more than {} descriptors came with one frame", kMaxDescriptors);
  auto frame = TRY(decoder_.feed(std::string_view(buffer, *count)));
  if (!frame) return true;
  TRY(events_.frame(std::move(*frame), std::exchange(fds_, {})));
  return false;
}

void Connection::fail(const Error& error) {
  if (failed_) return;
  failed_ = true;
  log::debug("a ttrpc connection has ended: {}", error.message());
  loop_.remove(socket_.get());
  // Not from here: whoever called send() does not expect its own state to change under it.
  loop_.post([self = shared_from_this()] { self->end(); });
}

void Connection::end() {
  if (!socket_) return;
  socket_.reset();
  fds_.clear();
  if (events_.closed) std::exchange(events_.closed, {})();
}

}  // namespace caisson::rpc
