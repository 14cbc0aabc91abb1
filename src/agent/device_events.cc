#include "agent/device_events.h"

#include <linux/netlink.h>
#include <sys/socket.h>

namespace caisson::agent {

Result<UniqueFd> watch_devices() {
  UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = 1;
  if (!socket || bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return errno_error("cannot watch the guest's devices come");
  return socket;
}

}  // namespace caisson::agent
