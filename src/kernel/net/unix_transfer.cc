// Sending and receiving over Unix sockets.
#include <string.h>

#include "kernel/net/unix_socket.h"

namespace caisson::kernel {
namespace {

constexpr size_t kPiece = 65536;
constexpr Events kIn = POLLIN | POLLRDNORM;

}  // namespace

Result<UnixEndpointRef> UnixSocket::destination(Task& task, const OutgoingMessage& message) {
  if (message.to) {
    if (type() == SOCK_STREAM) {
      std::lock_guard guard(self_->lock);
      return Errno(self_->state == UnixEndpoint::State::Connected ? EISCONN : EOPNOTSUPP);
    }
    if (type() == SOCK_DGRAM) return find_endpoint(task, *self_->network, *message.to);
  }
  std::lock_guard guard(self_->lock);
  if (self_->write_shut) return Errno(EPIPE);
  if (!self_->peer) return Errno(self_->peer_gone ? EPIPE : ENOTCONN);
  return self_->peer;
}

Result<size_t> UnixSocket::send(Task& task, IoBuffer& data, OutgoingMessage& message) {
  if ((message.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if (!message.control.empty()) return Errno(EINVAL);
  if (!message.identity) message.identity = PeerCredentials{task.group->id, task.creds->uid, task.creds->gid};
  return type() == SOCK_STREAM ? send_stream(task, data, message) : send_datagram(task, data, message);
}

Result<size_t> UnixSocket::send_stream(Task& task, IoBuffer& data, OutgoingMessage& message) {
  const UnixEndpointRef target = TRY(destination(task, message));
  size_t send_room;
  SocketAddress from;
  {
    std::lock_guard guard(self_->lock);
    send_room = self_->send_room;
    from = self_->address;
  }
  InFlight flight = TRY(InFlight::of(message.files.size()));
  const bool dont_wait = nonblocking() || (message.flags & MSG_DONTWAIT) != 0;
  const Deadline deadline = send_deadline();
  size_t done = 0;
  while (!data.empty()) {
    size_t reserved = 0;
    const Result<void> room = wait_on(
        task, self_->queue, POLLOUT, dont_wait, deadline,
        [&]() -> Result<void> {
          {
            std::lock_guard guard(self_->lock);
            if (self_->write_shut) return Errno(EPIPE);
          }
          std::lock_guard guard(target->lock);
          if (target->state == UnixEndpoint::State::Closed || target->read_shut) return Errno(EPIPE);
          const size_t most = std::min(target->room, send_room);
          if (target->bytes >= most) return Errno(EAGAIN);
          reserved = std::min({data.left(), most - target->bytes, kPiece});
          target->bytes += reserved;
          return {};
        },
        [] {});
    if (!room) {
      if (done > 0) return done;
      return room.error();
    }
    Result<Chunk> chunk = Chunk::taken(data, reserved);
    const size_t got = chunk ? chunk->size() : 0;
    {
      std::lock_guard guard(target->lock);
      target->bytes -= reserved - got;
      if (got > 0 && target->state != UnixEndpoint::State::Closed) {
        auto& queue = target->messages;
        const bool same =
            !queue.empty() && message.files.empty() && queue.back().files.empty() && queue.back().identity == *message.identity;
        if (!(same && got <= 512 && queue.back().data.absorb(*chunk))) {
          queue.push_back({*std::move(chunk), std::move(message.files), std::move(flight), *message.identity, from});
          message.files.clear();
        }
      }
    }
    if (got > 0) target->queue.wake(kIn);
    done += got;
    if (got < reserved) {
      if (done == 0) return chunk ? Errno(EFAULT) : chunk.error();
      return done;
    }
  }
  return done;
}

Result<size_t> UnixSocket::send_datagram(Task& task, IoBuffer& data, OutgoingMessage& message) {
  const UnixEndpointRef target = TRY(destination(task, message));
  if (target->type != type()) return Errno(EPROTOTYPE);
  const size_t size = data.left();
  size_t send_room;
  SocketAddress from;
  {
    std::lock_guard guard(self_->lock);
    send_room = self_->send_room;
    from = self_->address;
    if (self_->write_shut) return Errno(EPIPE);
  }
  if (size > send_room - 32) return Errno(EMSGSIZE);
  UnixMessage made;
  made.flight = TRY(InFlight::of(message.files.size()));
  made.data = TRY(Chunk::taken(data, size));
  if (made.data.size() < size) return Errno(EFAULT);
  made.files = std::move(message.files);
  made.identity = *message.identity;
  made.from = from;
  const bool dont_wait = nonblocking() || (message.flags & MSG_DONTWAIT) != 0;
  const bool connection = self_->connection_oriented();
  TRY(wait_on(
      task, target->queue, POLLOUT, dont_wait, send_deadline(),
      [&]() -> Result<void> {
        std::lock_guard guard(target->lock);
        if (target->state == UnixEndpoint::State::Closed) return Errno(connection ? EPIPE : ECONNREFUSED);
        if (target->read_shut) return Errno(EPIPE);
        if (!connection && target->peer && target->peer != self_) return Errno(EPERM);
        const bool full =
            target->messages.size() >= UnixEndpoint::kMostDatagrams || target->bytes + size > std::max(target->room, send_room);
        if (full && !target->messages.empty()) return Errno(EAGAIN);
        target->bytes += size;
        target->messages.push_back(std::move(made));
        return {};
      },
      [] {}));
  target->queue.wake(kIn);
  return size;
}

void UnixSocket::deliver(UnixMessage& from, IncomingMessage& to) {
  for (FileRef& file : from.files) to.files.push_back(std::move(file));
  from.files.clear();
  std::lock_guard guard(self_->lock);
  if (self_->pass_credentials) to.identity = from.identity;
  to.from = from.from;
}

// What one read can give: up to the end of the first message with descriptors; of one writer only where credentials are told.
Result<std::vector<UnixMessage>> UnixSocket::take_stream(size_t size, bool peek) {
  std::vector<UnixMessage> out;
  std::lock_guard guard(self_->lock);
  if (self_->messages.empty()) {
    if (self_->error != 0) return Errno(self_->take_error());
    if (self_->read_shut) return out;
    if (self_->state != UnixEndpoint::State::Connected) return Errno(EINVAL);
    return Errno(EAGAIN);
  }
  size_t at = 0;
  while (at < self_->messages.size() && (size > 0 || out.empty())) {
    UnixMessage& message = self_->messages[at];
    if (!out.empty() && self_->pass_credentials && message.identity.process != out.back().identity.process) break;
    const size_t now = std::min(size, message.data.size());
    UnixMessage taken;
    taken.identity = message.identity;
    taken.from = message.from;
    if (peek) {
      taken.files = message.files;
      taken.data = message.data;
      taken.data.end = taken.data.begin + now;
      ++at;
    } else {
      taken.files = std::move(message.files);
      taken.flight = std::move(message.flight);
      message.files.clear();
      taken.data = message.data.split(now);
      self_->bytes -= now;
      if (message.data.size() == 0) self_->messages.pop_front();
    }
    size -= now;
    const bool last = !taken.files.empty() || now == 0;
    out.push_back(std::move(taken));
    if (last) break;
  }
  return out;
}

Result<size_t> UnixSocket::receive_stream_once(IoBuffer& data, IncomingMessage& message, bool peek, bool first) {
  std::vector<UnixMessage> taken = TRY(take_stream(data.left(), peek));
  size_t done = 0;
  Result<size_t> moved = size_t{0};
  size_t at = 0;
  for (; at < taken.size(); ++at) {
    Chunk& chunk = taken[at].data;
    moved = data.put(chunk.data(), chunk.size());
    if (moved) done += *moved;
    if (!moved || *moved < chunk.size()) {
      chunk.begin += moved ? *moved : 0;
      break;
    }
    deliver(taken[at], message);
  }
  if (!peek && at < taken.size()) {
    // A bad address took it: back in front.
    std::lock_guard guard(self_->lock);
    for (size_t i = taken.size(); i-- > at;) {
      self_->bytes += taken[i].data.size();
      self_->messages.push_front(std::move(taken[i]));
    }
  }
  if (!peek && !taken.empty()) self_->drained();
  if (done == 0 && !moved && first) return moved.error();
  return done;
}

Result<void> UnixSocket::receive_packet(IoBuffer& data, IncomingMessage& message, bool peek) {
  UnixMessage taken;
  {
    std::lock_guard guard(self_->lock);
    if (self_->messages.empty()) {
      if (self_->error != 0) return Errno(self_->take_error());
      if (self_->read_shut) {
        message.length = 0;
        return {};
      }
      if (self_->connection_oriented() && self_->state != UnixEndpoint::State::Connected) return Errno(ENOTCONN);
      return Errno(EAGAIN);
    }
    UnixMessage& front = self_->messages.front();
    if (peek) {
      taken.data = front.data;
      taken.files = front.files;
      taken.identity = front.identity;
      taken.from = front.from;
    } else {
      taken = std::move(front);
      self_->bytes -= taken.data.size();
      self_->messages.pop_front();
    }
  }
  const size_t size = taken.data.size(), room = data.left();
  const size_t put = std::min(size, room);
  const Result<size_t> moved = data.put(taken.data.data(), put);
  const bool want_all = (message.flags & MSG_TRUNC) != 0;
  message.flags = 0;
  if (size > room) message.flags |= MSG_TRUNC;
  message.length = want_all ? size : put;
  deliver(taken, message);
  if (!peek) self_->drained();
  if (!moved || *moved < put) {
    release_files(std::move(message.files));
    message.files.clear();
    return Errno(EFAULT);
  }
  return {};
}

Result<void> UnixSocket::receive(Task& task, IoBuffer& data, IncomingMessage& message) {
  const int flags = message.flags;
  if ((flags & MSG_OOB) != 0) return Errno(type() == SOCK_STREAM ? EINVAL : EOPNOTSUPP);
  const bool dont_wait = nonblocking() || (flags & MSG_DONTWAIT) != 0, peek = (flags & MSG_PEEK) != 0;
  const Deadline deadline = receive_deadline();
  if (type() != SOCK_STREAM)
    return wait_on(
        task, self_->queue, POLLIN, dont_wait, deadline, [&] { return receive_packet(data, message, peek); }, [] {});
  message.flags = 0;
  message.length = 0;
  if (data.empty()) return {};
  const bool all = (flags & MSG_WAITALL) != 0 && !peek;
  do {
    const Result<size_t> got = wait_on(
        task, self_->queue, POLLIN, dont_wait, deadline, [&] { return receive_stream_once(data, message, peek, message.length == 0); },
        [] {});
    if (!got) {
      if (message.length > 0) return {};
      return got.error();
    }
    message.length += *got;
    if (*got == 0 || !message.files.empty()) break;
  } while (all && !data.empty());
  return {};
}

}  // namespace caisson::kernel
