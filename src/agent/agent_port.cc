#include "agent/agent_port.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <memory>

#include "host/files.h"

namespace caisson::agent {
namespace {

constexpr const char* kPorts = "/sys/class/virtio-ports";

// Device name ("vport1p1") of the port, "" if it is not there yet.
std::string find_port(const std::string& name) {
  std::unique_ptr<DIR, int (*)(DIR*)> ports(opendir(kPorts), closedir);
  if (!ports) return {};
  while (const dirent* entry = readdir(ports.get())) {
    if (entry->d_name[0] == '.') continue;
    Result<std::string> text = host::read_file(fmt::format("{}/{}/name", kPorts, entry->d_name), 256);
    if (text.ok() && *text == name + "\n") return entry->d_name;
  }
  return {};
}

Result<UniqueFd> listen_for_uevents() {
  UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
  if (!socket.valid()) return errno_error("cannot make a netlink socket");
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = 1;
  if (bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return errno_error("cannot listen for the kernel's events");
  return socket;
}

}  // namespace

Result<UniqueFd> open_agent_port(const std::string& name, std::chrono::milliseconds patience) {
  // Listening begins before the first look, so that nothing can be missed.
  UniqueFd uevents = TRY(listen_for_uevents());
  auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    if (std::string device = find_port(name); !device.empty()) {
      UniqueFd port(open(("/dev/" + device).c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
      if (port.valid()) return port;
      // devtmpfs may be a moment behind sysfs; its event follows.
      if (errno != ENOENT) return errno_error("cannot open /dev/{}", device);
    }
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0) return make_error(ETIMEDOUT, "no virtio port is called \"{}\"", name);
    pollfd poll_fd{uevents.get(), POLLIN, 0};
    poll(&poll_fd, 1, static_cast<int>(left));
    char event[4096];
    while (recv(uevents.get(), event, sizeof event, MSG_DONTWAIT) > 0) {
    }
  }
}

}  // namespace caisson::agent
