#include "kernel/net/host_socket.h"

#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "kernel/net/ethtool.h"
#include "kernel/net/host_options.h"
#include "kernel/net/netlink_requests.h"
#include "kernel/net/network_namespace.h"
#include "kernel/net/packet_ring.h"
#include "kernel/platform/watcher.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

// What one send of a stream copies; a datagram is never larger than kMostDatagram.
constexpr size_t kPiece = 262'144, kMostDatagram = 1 << 20, kMostControl = 1024;
constexpr int kSendFlags = MSG_OOB | MSG_DONTROUTE | MSG_EOR | MSG_CONFIRM | MSG_MORE | MSG_FASTOPEN;
constexpr int kReceiveFlags = MSG_OOB | MSG_PEEK | MSG_TRUNC | MSG_ERRQUEUE;
constexpr int kTold = MSG_EOR | MSG_TRUNC | MSG_CTRUNC | MSG_OOB | MSG_ERRQUEUE;

// Which sockets a guest may ask for. Kernel features behind other families are no part of a container.
Result<void> check_kind(Task& task, int family, int type, int protocol) {
  const bool raw = task.spaces->network->lets(*task.creds, kCapNetRaw);
  switch (family) {
    case AF_INET:
    case AF_INET6:
      if (type == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP)) return {};
      if (type == SOCK_STREAM) return Errno(EPROTONOSUPPORT);
      if (type == SOCK_DGRAM) {
        if (protocol == 0 || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE || protocol == IPPROTO_ICMP ||
            protocol == IPPROTO_ICMPV6)
          return {};
        return Errno(EPROTONOSUPPORT);
      }
      if (type == SOCK_RAW) return raw ? Result<void>() : Result<void>(Errno(EPERM));
      return Errno(ESOCKTNOSUPPORT);
    case AF_NETLINK:
      if (type != SOCK_RAW && type != SOCK_DGRAM) return Errno(ESOCKTNOSUPPORT);
      if (protocol == NETLINK_ROUTE || protocol == NETLINK_SOCK_DIAG) return {};
      return Errno(EPROTONOSUPPORT);
    case AF_PACKET:
      if (!raw) return Errno(EPERM);
      if (type != SOCK_RAW && type != SOCK_DGRAM) return Errno(ESOCKTNOSUPPORT);
      return {};
    default:
      return Errno(EAFNOSUPPORT);
  }
}

// Not to another process.
bool is_to_kernel(const OutgoingMessage& message) {
  if (!message.to) return true;
  sockaddr_nl address{};
  memcpy(&address, message.to->get(), std::min<size_t>(message.to->length, sizeof address));
  return address.nl_family == AF_NETLINK && address.nl_pid == 0 && address.nl_groups == 0;
}

}  // namespace

Result<std::shared_ptr<HostSocket>> HostSocket::create(Task& task, int family, int type, int protocol, int flags) {
  TRY(check_kind(task, family, type, protocol));
  const std::shared_ptr<NetworkNamespace>& network = task.spaces->network;
  UniqueFd fd = TRY(network->open_socket(family, type, protocol));
  int real = protocol;
  socklen_t length = sizeof real;
  getsockopt(fd.get(), SOL_SOCKET, SO_PROTOCOL, &real, &length);
  return std::make_shared<HostSocket>(std::move(fd), network, task.kernel, family, type, real, flags);
}

HostSocket::HostSocket(UniqueFd fd, std::shared_ptr<NetworkNamespace> network, Kernel& kernel, int family, int type, int protocol,
                       int flags)
    : Socket(family, type, protocol, flags), fd_(std::move(fd)), network_(std::move(network)), kernel_(kernel) {}

bool HostSocket::lets(Task& task, int capability) const { return network_->lets(*task.creds, capability); }
bool HostSocket::administers(Task& task) const { return lets(task, kCapNetAdmin) && network_->broker().administers(); }

ino_t HostSocket::host_inode() const {
  struct stat stat {};
  return fstat(fd_.get(), &stat) == 0 ? stat.st_ino : 0;
}

std::shared_ptr<PacketRing> HostSocket::ring() {
  if (family() != AF_PACKET) return nullptr;
  std::lock_guard guard(ring_lock_);
  return ring_;
}

Result<MapSource> HostSocket::map(uint64_t offset, uint64_t length, int, int flags) {
  if (family() != AF_PACKET) return Errno(ENODEV);
  const auto mapped = ring();
  if (!mapped || offset != 0 || length != mapped->size() || (flags & MAP_SHARED) == 0) return Errno(EINVAL);
  return MapSource{mapped->memory(), 0, false};
}

std::optional<Result<void>> HostSocket::set_ring_option(int name, std::string_view value) {
  if (name != PACKET_RX_RING && name != PACKET_VERSION && name != PACKET_RESERVE) return std::nullopt;
  tpacket_req request{};
  const size_t size = name == PACKET_RX_RING ? sizeof request : sizeof(int);
  if (value.size() < size) return Errno(EINVAL);
  memcpy(&request, value.data(), size);
  const unsigned number = request.tp_block_size;  // of the options that are one
  std::lock_guard guard(ring_lock_);
  if (name != PACKET_RX_RING) {
    if (ring_) return Errno(EBUSY);
    if (name == PACKET_VERSION && number != TPACKET_V1 && number != PacketRing::kVersion) return Errno(EINVAL);
    (name == PACKET_VERSION ? ring_version_ : ring_reserve_) = number;
    return Result<void>();
  }
  if (request.tp_block_nr == 0) {
    if (request.tp_frame_nr != 0) return Errno(EINVAL);
    ring_.reset();
    return Result<void>();
  }
  if (ring_) return Errno(EBUSY);
  if (ring_version_ != PacketRing::kVersion) return Errno(EINVAL);
  auto made = PacketRing::make(fd_.get(), request, type() == SOCK_RAW, ring_reserve_);
  if (!made) return made.error();
  ring_ = *std::move(made);
  return Result<void>();
}

Result<struct statx> HostSocket::stat() { return anonymous_stat(S_IFSOCK | 0777, host_inode()); }

std::string HostSocket::description() const { return "socket:[" + std::to_string(host_inode()) + "]"; }

HostSocket::~HostSocket() {
  if (watch_ != 0) kernel_.watcher().remove(watch_, fd_.get());
}

void HostSocket::arm(Events) {
  std::lock_guard guard(watch_lock_);
  if (watch_ != 0) return;
  auto added = kernel_.watcher().add_edges(fd_.get(), [shared = shared_](Events events) { shared->queue.wake(events); });
  if (added) watch_ = *added;
}

Events HostSocket::poll() {
  pollfd entry{fd_.get(), POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | POLLRDHUP, 0};
  const auto filled = ring();
  const bool frames = filled && filled->fill(fd_.get());
  if (::poll(&entry, 1, 0) < 0) entry.revents = 0;
  return static_cast<uint16_t>(entry.revents) | (frames ? POLLIN | POLLRDNORM : 0);
}

Result<void> HostSocket::bind(Task& task, const SocketAddress& address) {
  uint16_t port = 0;
  if (family() == AF_INET || family() == AF_INET6) {
    // The port lies at the same place in both.
    if (address.length >= 4) memcpy(&port, reinterpret_cast<const char*>(&address.storage) + 2, 2);
    port = ntohs(port);
    const bool low = port > 0 && port < network_->first_unprivileged_port && type() != SOCK_RAW;
    if (low && !lets(task, kCapNetBindService)) return Errno(EACCES);
  }
  if (::bind(fd_.get(), address.get(), address.length) == 0) return {};
  // A port of a network that is not this process's to give: the task may have it, as has been checked.
  if (errno == EACCES && port != 0) return network_->broker().bind(fd_.get(), address.get(), address.length);
  return host_errno();
}

Result<void> HostSocket::connect(Task& task, const SocketAddress& address) {
  if (::connect(fd_.get(), address.get(), address.length) == 0) {
    shared_->queue.wake(POLLOUT);
    return {};
  }
  // EALREADY: this call goes on with what an interrupted one began.
  const int error = errno;
  if (error != EINPROGRESS && !(error == EALREADY && !nonblocking())) return Errno(error);
  if (nonblocking()) return Errno(EINPROGRESS);
  const Result<void> done = wait_on(
      task, shared_->queue, POLLOUT, false, send_deadline(),
      [&]() -> Result<void> {
        if ((poll() & (POLLOUT | POLLERR | POLLHUP)) == 0) return Errno(EAGAIN);
        // Asked again, the host tells how it ended; after a failure the socket may be connected once more, as after a call that blocks
        // (SO_ERROR would leave it in between: the next one would fail with ECONNABORTED).
        if (::connect(fd_.get(), address.get(), address.length) == 0 || errno == EISCONN) return {};
        if (errno == EALREADY || errno == EINPROGRESS) return Errno(EAGAIN);
        return Errno(errno == EAGAIN ? ETIMEDOUT : errno);
      },
      [&] { arm(POLLOUT); });
  if (!done && done.error() == Errno(EAGAIN)) return Errno(EINPROGRESS);
  return done;
}

Result<void> HostSocket::listen(Task&, int backlog) {
  TRY(host_result(::listen(fd_.get(), backlog)));
  return {};
}

Result<FileRef> HostSocket::accept(Task& task, int flags, SocketAddress* peer) {
  SocketAddress from;
  const long fd = TRY(wait_on(
      task, shared_->queue, POLLIN, nonblocking(), receive_deadline(),
      [&]() -> Result<long> {
        from.length = sizeof from.storage;
        return host_result(::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&from.storage), &from.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
      },
      [&] { arm(POLLIN); }));
  if (peer != nullptr) *peer = from;
  return FileRef(std::make_shared<HostSocket>(UniqueFd(static_cast<int>(fd)), network_, kernel_, family(), type(), protocol(), flags));
}

Result<SocketAddress> HostSocket::name() {
  SocketAddress address;
  address.length = sizeof address.storage;
  TRY(host_result(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address.storage), &address.length)));
  return address;
}

Result<SocketAddress> HostSocket::peer_name() {
  SocketAddress address;
  address.length = sizeof address.storage;
  TRY(host_result(::getpeername(fd_.get(), reinterpret_cast<sockaddr*>(&address.storage), &address.length)));
  return address;
}

Result<void> HostSocket::shutdown(int how) {
  TRY(host_result(::shutdown(fd_.get(), how)));
  shared_->queue.wake(POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
  return {};
}

Result<size_t> HostSocket::send_once(const OutgoingMessage& message, const void* bytes, size_t size, std::string& control) {
  iovec vector{const_cast<void*>(bytes), size};
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  if (message.to) {
    header.msg_name = const_cast<sockaddr*>(message.to->get());
    header.msg_namelen = message.to->length;
  }
  if (!control.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
  }
  return static_cast<size_t>(TRY(host_result(::sendmsg(fd_.get(), &header, (message.flags & kSendFlags) | MSG_DONTWAIT | MSG_NOSIGNAL))));
}

Result<size_t> HostSocket::send(Task& task, IoBuffer& data, OutgoingMessage& message) {
  if (!message.files.empty()) return Errno(EINVAL);
  TRY(check_host_control(message.control));
  const bool stream = type() == SOCK_STREAM;
  if (!stream && data.left() > kMostDatagram) return Errno(EMSGSIZE);
  const bool dont_wait = nonblocking() || (message.flags & MSG_DONTWAIT) != 0;
  const Deadline deadline = send_deadline();
  const size_t size = std::min(data.left(), stream ? kPiece : kMostDatagram);
  char small[4096];
  std::unique_ptr<char[]> large;
  if (size > sizeof small) large.reset(new char[size]);
  char* bytes = large ? large.get() : small;
  size_t done = 0;
  do {
    // A copy: what the host does not take is not lost.
    IoBuffer ahead = data;
    const size_t piece = TRY(ahead.take(bytes, size));
    if (piece < std::min(size, data.left()) && !stream) return Errno(EFAULT);
    if (family() == AF_NETLINK) disarm_netlink(protocol(), {bytes, piece});
    // What the task has no right to the host refuses, by an answer.
    const bool administers_now =
        family() == AF_NETLINK && is_to_kernel(message) && administers(task) && needs_administrator(protocol(), {bytes, piece});
    const Result<size_t> sent = wait_on(
        task, shared_->queue, POLLOUT, dont_wait, deadline,
        [&] {
          return administers_now ? network_->broker().send(fd_.get(), {bytes, piece}) : send_once(message, bytes, piece, message.control);
        },
        [&] { arm(POLLOUT); });
    if (!sent) {
      if (done > 0) return done;
      return sent.error();
    }
    data.skip(*sent);
    done += *sent;
    if (!stream || (dont_wait && *sent < piece)) break;
  } while (!data.empty());
  return done;
}

Result<void> HostSocket::receive_once(IoBuffer& data, IncomingMessage& message, int flags) {
  const size_t size = std::min(data.left(), type() == SOCK_STREAM ? kPiece : kMostDatagram);
  char small[4096];
  std::unique_ptr<char[]> large;
  if (size > sizeof small) large.reset(new char[size]);
  char* bytes = large ? large.get() : small;
  iovec vector{bytes, size};
  alignas(cmsghdr) char control[kMostControl];
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_name = &message.from.storage;
  header.msg_namelen = sizeof message.from.storage;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  // No MSG_CMSG_CLOEXEC: none of these families passes descriptors, and packet(7) refuses it.
  const size_t got = static_cast<size_t>(TRY(host_result(::recvmsg(fd_.get(), &header, (flags & kReceiveFlags) | MSG_DONTWAIT))));
  message.from.length = std::min<socklen_t>(header.msg_namelen, sizeof message.from.storage);
  message.flags = header.msg_flags & kTold;
  for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
    if (!passes_host_control(each->cmsg_level, each->cmsg_type)) continue;
    const size_t end = message.control.size();
    message.control.append(reinterpret_cast<const char*>(each), each->cmsg_len);
    message.control.resize(end + CMSG_ALIGN(each->cmsg_len));
  }
  const size_t put = std::min(got, size);
  message.length += got;
  if (type() == SOCK_STREAM && (flags & MSG_TRUNC) != 0) return {};  // tcp(7): discarded
  if (TRY(data.put(bytes, put)) < put) return Errno(EFAULT);
  return {};
}

Result<void> HostSocket::receive(Task& task, IoBuffer& data, IncomingMessage& message) {
  const int flags = message.flags;
  const bool dont_wait = nonblocking() || (flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) != 0;
  const bool all = (flags & MSG_WAITALL) != 0 && type() == SOCK_STREAM && (flags & MSG_PEEK) == 0;
  const Deadline deadline = receive_deadline();
  message.length = 0;
  do {
    const size_t before = message.length;
    const Result<void> got = wait_on(
        task, shared_->queue, POLLIN, dont_wait, deadline, [&] { return receive_once(data, message, flags); }, [&] { arm(POLLIN); });
    if (!got) {
      if (before > 0) return {};
      return got.error();
    }
    if (message.length == before) break;
  } while (all && !data.empty());
  return {};
}

Result<std::string> HostSocket::option(Task& task, int level, int name, size_t room) {
  const HostOption* row = find_host_option(level, name);
  if (row == nullptr || !row->get) return Socket::option(task, level, name, room);
  std::string value(std::min(room, row->most), '\0');
  socklen_t length = static_cast<socklen_t>(value.size());
  TRY(host_result(::getsockopt(fd_.get(), level, name, value.data(), &length)));
  value.resize(std::min<size_t>(length, value.size()));
  return value;
}

Result<void> HostSocket::set_option(Task& task, int level, int name, std::string_view value) {
  const HostOption* row = find_host_option(level, name);
  if (row == nullptr || !row->set) return Socket::set_option(task, level, name, value);
  if (row->capability >= 0 && !lets(task, row->capability)) return Errno(EPERM);
  if (level == SOL_PACKET)
    if (const auto done = set_ring_option(name, value)) return *done;
  std::string copy(value.substr(0, row->most));
  if (::setsockopt(fd_.get(), level, name, copy.data(), static_cast<socklen_t>(copy.size())) == 0) return {};
  int number;
  if (errno != EPERM || copy.size() < sizeof number || !administers(task)) return host_errno();
  memcpy(&number, copy.data(), sizeof number);
  return network_->broker().set_option(fd_.get(), level, name, number);
}

namespace {
Result<long> interface_ioctl(Task& task, NetworkNamespace& network, int fd, unsigned command, uint64_t argument) {
  const bool administrator = network.lets(*task.creds, kCapNetAdmin);
  if (command == SIOCGIFCONF) {
    // struct ifconf points to a buffer: ours for the host's call, then copied.
    ifconf wanted = TRY(task.read(UserPtr<ifconf>(argument)));
    if (wanted.ifc_len < 0) return Errno(EINVAL);
    const uint64_t to = reinterpret_cast<uint64_t>(wanted.ifc_buf);
    std::vector<ifreq> rows(to == 0 ? 0 : std::min<size_t>(static_cast<size_t>(wanted.ifc_len) / sizeof(ifreq), 1024));
    ifconf ours{};
    ours.ifc_len = static_cast<int>(rows.size() * sizeof(ifreq));
    ours.ifc_req = to == 0 ? nullptr : rows.data();
    TRY(host_result(::ioctl(fd, SIOCGIFCONF, &ours)));
    if (to != 0) TRY(task.write_bytes(to, rows.data(), std::min<size_t>(ours.ifc_len, rows.size() * sizeof(ifreq))));
    wanted.ifc_len = ours.ifc_len;
    TRY(task.write(UserPtr<ifconf>(argument), wanted));
    return 0L;
  }
  if (command == SIOCETHTOOL) return ethtool_ioctl(task, fd, argument, administrator);
  const HostIoctl* row = find_host_ioctl(command);
  if (row == nullptr) return Errno(ENOTTY);
  if (row->administrator && !administrator) return Errno(EPERM);
  char bytes[sizeof(ifreq)] = {};
  TRY(task.read_bytes(argument, bytes, row->size));
  if (row->administrator) {
    TRY(network.broker().ioctl(fd, command, {bytes, row->size}));
    return 0L;
  }
  const long result = TRY(host_result(::ioctl(fd, command, bytes)));
  TRY(task.write_bytes(argument, bytes, row->size));
  return result;
}

}  // namespace

Result<long> HostSocket::ioctl(Task& task, unsigned command, uint64_t argument) {
  return interface_ioctl(task, *network_, fd_.get(), command, argument);
}

Result<long> any_socket_ioctl(Task& task, NetworkNamespace& network, unsigned command, uint64_t argument) {
  // Those of struct net_device (netdevice(7)); addresses belong to sockets of their family.
  constexpr unsigned kOfDevices[] = {SIOCGIFCONF, SIOCGIFNAME, SIOCGIFINDEX,  SIOCGIFFLAGS,  SIOCSIFFLAGS,  SIOCGIFMETRIC,
                                     SIOCGIFMTU,  SIOCSIFMTU,  SIOCGIFHWADDR, SIOCGIFTXQLEN, SIOCSIFTXQLEN, SIOCGIFMAP,
                                     SIOCBRADDBR, SIOCBRDELBR, SIOCBRADDIF,   SIOCBRDELIF,   SIOCETHTOOL};
  if (std::find(std::begin(kOfDevices), std::end(kOfDevices), command) == std::end(kOfDevices)) return Errno(ENOTTY);
  const UniqueFd fd = TRY(network.open_socket(AF_INET, SOCK_DGRAM, 0));
  return interface_ioctl(task, network, fd.get(), command, argument);
}

}  // namespace caisson::kernel
