#include "kernel/net/uevent_socket.h"

#include <string.h>

#include <algorithm>

namespace caisson::kernel {
namespace {

Result<sockaddr_nl> netlink_address(const SocketAddress& address) {
  sockaddr_nl netlink{};
  if (address.length < sizeof netlink || address.family() != AF_NETLINK) return Errno(EINVAL);
  memcpy(&netlink, address.get(), sizeof netlink);
  return netlink;
}

SocketAddress to_address(const sockaddr_nl& netlink) {
  SocketAddress address;
  memcpy(&address.storage, &netlink, sizeof netlink);
  address.length = sizeof netlink;
  return address;
}

}  // namespace

Result<std::shared_ptr<UeventSocket>> UeventSocket::create(int type, int flags) {
  if (type != SOCK_RAW && type != SOCK_DGRAM) return Errno(ESOCKTNOSUPPORT);
  return std::make_shared<UeventSocket>(type, flags);
}

Result<void> UeventSocket::bind(Task& task, const SocketAddress& address) {
  const sockaddr_nl wanted = TRY(netlink_address(address));
  std::lock_guard guard(lock_);
  if (name_.nl_pid != 0 && wanted.nl_pid != name_.nl_pid) return Errno(EINVAL);
  name_.nl_pid = wanted.nl_pid != 0 ? wanted.nl_pid : static_cast<uint32_t>(task.group->pid);
  name_.nl_groups = wanted.nl_groups;
  return {};
}

Result<void> UeventSocket::connect(Task&, const SocketAddress& address) {
  (void)TRY(netlink_address(address));
  return {};
}

Result<SocketAddress> UeventSocket::name() {
  std::lock_guard guard(lock_);
  return to_address(name_);
}

Result<SocketAddress> UeventSocket::peer_name() { return to_address({.nl_family = AF_NETLINK, .nl_pad = 0, .nl_pid = 0, .nl_groups = 0}); }

Result<void> UeventSocket::receive(Task& task, IoBuffer&, IncomingMessage& message) {
  const bool dont_wait = nonblocking() || (message.flags & MSG_DONTWAIT) != 0;
  return wait_on(
      task, queue_, POLLIN, dont_wait, receive_deadline(), []() -> Result<void> { return Errno(EAGAIN); }, [] {});
}

Result<std::string> UeventSocket::option(Task& task, int level, int name, size_t room) {
  if (level != SOL_SOCKET || (name != SO_RCVBUF && name != SO_ERROR)) return Socket::option(task, level, name, room);
  std::lock_guard guard(lock_);
  const int value = name == SO_RCVBUF ? receive_buffer_ : 0;
  return std::string(reinterpret_cast<const char*>(&value), std::min(room, sizeof value));
}

Result<void> UeventSocket::set_option(Task& task, int level, int name, std::string_view value) {
  int number = 0;
  if (value.size() >= sizeof number) memcpy(&number, value.data(), sizeof number);
  if (level == SOL_NETLINK && (name == NETLINK_ADD_MEMBERSHIP || name == NETLINK_DROP_MEMBERSHIP)) return {};
  if (level != SOL_SOCKET) return Socket::set_option(task, level, name, value);
  switch (name) {
    case SO_RCVBUF:
    case SO_RCVBUFFORCE: {
      std::lock_guard guard(lock_);
      receive_buffer_ = 2 * std::clamp(number, 1128, 64 << 20);  // socket(7): doubled
      return {};
    }
    // About messages, of which there are none.
    case SO_PASSCRED:
    case SO_TIMESTAMP:
    case SO_ATTACH_FILTER:
    case SO_DETACH_FILTER:
      return {};
    default:
      return Socket::set_option(task, level, name, value);
  }
}

}  // namespace caisson::kernel
