#include "kernel/net/unix_socket.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/un.h>

#include "kernel/net/host_socket.h"
#include "kernel/net/network_namespace.h"
#include "kernel/net/unix_address.h"
#include "kernel/task/kernel.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {

PeerCredentials credentials_of(Task& task) { return {task.group->id, task.creds->euid, task.creds->egid}; }

std::shared_ptr<UnixSocket> UnixSocket::create(Task& task, int type, int flags) {
  return std::make_shared<UnixSocket>(std::make_shared<UnixEndpoint>(type, task.spaces->network), flags);
}

std::pair<std::shared_ptr<UnixSocket>, std::shared_ptr<UnixSocket>> UnixSocket::create_pair(Task& task, int type, int flags) {
  auto one = create(task, type, flags), two = create(task, type, flags);
  for (const auto& [self, other] : {std::pair(one, two), std::pair(two, one)}) {
    UnixEndpoint& end = *self->self_;
    end.state = UnixEndpoint::State::Connected;
    end.peer = other->self_;
    end.credentials = end.peer_credentials = credentials_of(task);
  }
  return {one, two};
}

Result<void> UnixSocket::bind(Task& task, const SocketAddress& address) {
  const UnixName name = TRY(UnixName::parse(address));
  {
    std::lock_guard guard(self_->lock);
    if (self_->address.length > 0) return name.kind == UnixName::Unnamed ? Result<void>() : Result<void>(Errno(EINVAL));
  }
  SocketAddress bound;
  InodeRef place;
  if (name.kind == UnixName::Path) {
    place = TRY(make_socket_inode(task, name.text));
    UnixNames::get().add_inode(TRY(place->stat()), self_);
    bound = name.address();
  } else if (name.kind == UnixName::Abstract) {
    TRY(UnixNames::get().add_abstract(name.text, self_));
    bound = name.address();
  } else {
    bound = UnixName{UnixName::Abstract, TRY(UnixNames::get().add_automatic(self_))}.address();
  }
  std::lock_guard guard(self_->lock);
  if (self_->address.length > 0) return Errno(EINVAL);
  self_->address = bound;
  self_->place = std::move(place);
  self_->credentials = credentials_of(task);
  return {};
}

Result<UnixEndpointRef> find_endpoint(Task& task, const NetworkNamespace& network, const SocketAddress& address) {
  const UnixName name = TRY(UnixName::parse(address));
  UnixEndpointRef found;
  if (name.kind == UnixName::Unnamed) return Errno(EINVAL);
  if (name.kind == UnixName::Abstract) {
    found = UnixNames::get().find_abstract(network, name.text);
  } else {
    const Path path = TRY(walk(task, AT_FDCWD, name.text));
    const InodeRef inode = path.inode();
    TRY(permission(task, *inode, W_OK));
    if ((inode->type() & S_IFMT) != S_IFSOCK) return Errno(ECONNREFUSED);
    found = UnixNames::get().find_inode(TRY(inode->stat()));
  }
  if (!found) return Errno(ECONNREFUSED);
  return found;
}

Result<void> UnixSocket::listen(Task& task, int backlog) {
  if (type() == SOCK_DGRAM) return Errno(EOPNOTSUPP);
  {
    std::lock_guard guard(self_->lock);
    if (self_->address.length == 0 || self_->state == UnixEndpoint::State::Connected) return Errno(EINVAL);
    self_->state = UnixEndpoint::State::Listening;
    self_->backlog = backlog < 0 || backlog > 4096 ? 4096 : static_cast<size_t>(backlog);
    self_->credentials = credentials_of(task);
  }
  self_->queue.wake(POLLOUT);
  return {};
}

Result<void> UnixSocket::connect_once(Task& task, const UnixEndpointRef& target) {
  if (target == self_) {
    std::lock_guard guard(self_->lock);
    return Errno(self_->state == UnixEndpoint::State::Listening ? EINVAL : ECONNREFUSED);
  }
  auto accepted = std::make_shared<UnixEndpoint>(type(), target->network);
  {
    std::lock_guard listener(target->lock);
    if (target->type != type()) return Errno(EPROTOTYPE);
    if (target->state != UnixEndpoint::State::Listening || target->read_shut) return Errno(ECONNREFUSED);
    if (target->pending.size() > target->backlog) return Errno(EAGAIN);
    // A listener is locked before a client; nobody who holds a client's lock asks for a listener's.
    std::lock_guard guard(self_->lock);
    if (self_->state == UnixEndpoint::State::Connected) return Errno(EISCONN);
    if (self_->state != UnixEndpoint::State::Fresh) return Errno(EINVAL);
    accepted->state = self_->state = UnixEndpoint::State::Connected;
    accepted->peer = self_;
    accepted->peer_address = self_->address;
    accepted->address = target->address;
    accepted->credentials = target->credentials;
    accepted->peer_credentials = self_->credentials = credentials_of(task);
    accepted->pass_credentials = target->pass_credentials;
    accepted->room = target->room;
    self_->peer = accepted;
    self_->peer_address = target->address;
    self_->peer_credentials = target->credentials;
    target->pending.push_back(std::move(accepted));
  }
  target->queue.wake(POLLIN | POLLRDNORM);
  self_->queue.wake(POLLOUT | POLLWRNORM);
  return {};
}

Result<void> UnixSocket::connect_datagram(Task& task, const SocketAddress& address) {
  UnixEndpointRef target;
  if (address.family() != AF_UNSPEC) {
    target = TRY(find_endpoint(task, *self_->network, address));
    if (target->type != type()) return Errno(EPROTOTYPE);
    std::lock_guard guard(target->lock);
    if (target->peer && target->peer != self_) return Errno(EPERM);
  }
  UnixEndpointRef old;
  {
    std::lock_guard guard(self_->lock);
    old = std::exchange(self_->peer, target);
    self_->peer_address = target ? address : SocketAddress();
    self_->state = target ? UnixEndpoint::State::Connected : UnixEndpoint::State::Fresh;
  }
  self_->queue.wake(POLLOUT);
  return {};
}

Result<void> UnixSocket::connect(Task& task, const SocketAddress& address) {
  if (type() == SOCK_DGRAM) return connect_datagram(task, address);
  const UnixEndpointRef target = TRY(find_endpoint(task, *self_->network, address));
  return wait_on(
      task, target->queue, POLLOUT, nonblocking(), send_deadline(), [&] { return connect_once(task, target); }, [] {});
}

Result<FileRef> UnixSocket::accept(Task& task, int flags, SocketAddress* peer) {
  if (type() == SOCK_DGRAM) return Errno(EOPNOTSUPP);
  const UnixEndpointRef accepted = TRY(wait_on(
      task, self_->queue, POLLIN, nonblocking(), receive_deadline(),
      [&]() -> Result<UnixEndpointRef> {
        std::lock_guard guard(self_->lock);
        if (self_->state != UnixEndpoint::State::Listening || self_->read_shut) return Errno(EINVAL);
        if (self_->pending.empty()) return Errno(EAGAIN);
        UnixEndpointRef first = std::move(self_->pending.front());
        self_->pending.pop_front();
        return first;
      },
      [] {}));
  self_->queue.wake(POLLOUT | POLLWRNORM);
  auto socket = std::make_shared<UnixSocket>(accepted, flags);
  if (peer != nullptr) *peer = TRY(socket->peer_name());
  return FileRef(std::move(socket));
}

namespace {
SocketAddress or_unnamed(const SocketAddress& address) {
  if (address.length > 0) return address;
  SocketAddress unnamed;
  unnamed.storage.ss_family = AF_UNIX;
  unnamed.length = sizeof(sa_family_t);
  return unnamed;
}
}  // namespace

Result<SocketAddress> UnixSocket::name() {
  std::lock_guard guard(self_->lock);
  return or_unnamed(self_->address);
}

Result<SocketAddress> UnixSocket::peer_name() {
  std::lock_guard guard(self_->lock);
  if (!self_->peer && !self_->peer_gone) return Errno(ENOTCONN);
  return or_unnamed(self_->peer_address);
}

Result<void> UnixSocket::shutdown(int how) {
  UnixEndpointRef other;
  {
    std::lock_guard guard(self_->lock);
    if (how == SHUT_RD || how == SHUT_RDWR) self_->read_shut = true;
    if (how == SHUT_WR || how == SHUT_RDWR) self_->write_shut = true;
    if (self_->connection_oriented()) other = self_->peer;
  }
  if (other) {
    {
      std::lock_guard guard(other->lock);
      if (how == SHUT_RD || how == SHUT_RDWR) other->write_shut = true;
      if (how == SHUT_WR || how == SHUT_RDWR) other->read_shut = true;
    }
    other->queue.wake(POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
  }
  self_->queue.wake(POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
  return {};
}

Events UnixSocket::poll() {
  Events events = 0;
  UnixEndpointRef other;
  bool datagram = type() == SOCK_DGRAM;
  {
    std::lock_guard guard(self_->lock);
    if (self_->error != 0) events |= POLLERR;
    if (self_->read_shut) events |= POLLRDHUP | POLLIN | POLLRDNORM;
    if (self_->read_shut && self_->write_shut) events |= POLLHUP;
    if (!self_->messages.empty() || !self_->pending.empty()) events |= POLLIN | POLLRDNORM;
    if (self_->state == UnixEndpoint::State::Listening) return events;
    if (!datagram && self_->state == UnixEndpoint::State::Fresh) events |= POLLHUP;
    if (self_->write_shut) return events | POLLOUT | POLLWRNORM | POLLWRBAND;
    other = self_->peer;
  }
  bool room = true;
  if (other && other != self_) {
    std::lock_guard guard(other->lock);
    room = datagram ? other->messages.size() < UnixEndpoint::kMostDatagrams && other->bytes * 2 <= other->room
                    : other->bytes * 4 <= other->room;
    if (!room && datagram && other->senders.size() < 4096) other->senders.push_back(self_);
  }
  if (room) events |= POLLOUT | POLLWRNORM | POLLWRBAND;
  return events;
}

Result<long> UnixSocket::ioctl(Task& task, unsigned command, uint64_t argument) {
  size_t bytes = 0;
  if (command == FIONREAD) {
    std::lock_guard guard(self_->lock);
    if (self_->state == UnixEndpoint::State::Listening) return Errno(EINVAL);
    for (const UnixMessage& message : self_->messages) {
      bytes += message.data.size();
      if (type() != SOCK_STREAM) break;
    }
  } else if (command == TIOCOUTQ) {
    UnixEndpointRef other;
    {
      std::lock_guard guard(self_->lock);
      other = self_->peer;
    }
    if (other) {
      std::lock_guard guard(other->lock);
      bytes = other->bytes;
    }
  } else {
    return any_socket_ioctl(task, *self_->network, command, argument);
  }
  TRY(task.write(UserPtr<int>(argument), static_cast<int>(bytes)));
  return 0L;
}

namespace {
template <typename T>
std::string value_of(const T& value, size_t room) {
  return std::string(reinterpret_cast<const char*>(&value), std::min(room, sizeof value));
}
}  // namespace

Result<std::string> UnixSocket::option(Task& task, int level, int name, size_t room) {
  if (level != SOL_SOCKET) return Errno(level == AF_UNIX ? ENOPROTOOPT : EOPNOTSUPP);
  std::unique_lock guard(self_->lock);
  switch (name) {
    case SO_ERROR:
      return value_of(self_->take_error(), room);
    case SO_ACCEPTCONN:
      return value_of(static_cast<int>(self_->state == UnixEndpoint::State::Listening), room);
    case SO_SNDBUF:
      return value_of(static_cast<int>(self_->send_room), room);
    case SO_RCVBUF:
      return value_of(static_cast<int>(self_->room), room);
    case SO_PASSCRED:
      return value_of(static_cast<int>(self_->pass_credentials), room);
    case SO_PEERCRED: {
      ucred peer = self_->peer_credentials.shown_to(task);
      if (self_->state == UnixEndpoint::State::Fresh && !self_->peer_gone) peer = {0, static_cast<uid_t>(-1), static_cast<gid_t>(-1)};
      return value_of(peer, room);
    }
    case SO_REUSEADDR:
    case SO_KEEPALIVE:
    case SO_BROADCAST:
    case SO_OOBINLINE:
    case SO_DONTROUTE:
    case SO_PRIORITY:
    case SO_TIMESTAMP:
    case SO_REUSEPORT:
    case SO_DEBUG:
      return value_of(0, room);
    case SO_LINGER:
      return value_of(linger{}, room);
    case SO_RCVLOWAT:
    case SO_SNDLOWAT:
      return value_of(1, room);
    case SO_PEERSEC:
    case SO_PEERGROUPS:
      return Errno(ENOPROTOOPT);
    default:
      break;
  }
  guard.unlock();
  return Socket::option(task, level, name, room);
}

Result<void> UnixSocket::set_option(Task& task, int level, int name, std::string_view value) {
  if (level != SOL_SOCKET) return Errno(level == AF_UNIX ? ENOPROTOOPT : EOPNOTSUPP);
  int number = 0;
  const bool has_number = value.size() >= sizeof number;
  if (has_number) memcpy(&number, value.data(), sizeof number);
  switch (name) {
    case SO_SNDBUF:
    case SO_RCVBUF:
    case SO_SNDBUFFORCE:
    case SO_RCVBUFFORCE: {
      if (!has_number) return Errno(EINVAL);
      // As Linux: the double, within bounds.
      const size_t size = std::clamp<size_t>(static_cast<size_t>(std::max(0, number)) * 2, 4608, UnixEndpoint::kMostBuffer);
      std::lock_guard guard(self_->lock);
      (name == SO_SNDBUF || name == SO_SNDBUFFORCE ? self_->send_room : self_->room) = size;
      return {};
    }
    case SO_PASSCRED: {
      if (!has_number) return Errno(EINVAL);
      std::lock_guard guard(self_->lock);
      self_->pass_credentials = number != 0;
      return {};
    }
    case SO_REUSEADDR:
    case SO_KEEPALIVE:
    case SO_BROADCAST:
    case SO_OOBINLINE:
    case SO_DONTROUTE:
    case SO_PRIORITY:
    case SO_TIMESTAMP:
    case SO_LINGER:
    case SO_RCVLOWAT:
      return {};  // mean nothing here
    default:
      return Socket::set_option(task, level, name, value);
  }
}

}  // namespace caisson::kernel
