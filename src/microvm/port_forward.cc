#include "microvm/port_forward.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "sandbox/mux_socket.h"

namespace caisson::microvm {
namespace {

constexpr size_t kMostConnections = 256;
constexpr std::chrono::seconds kConnectDeadline{10};

// The address that the client has connected to. An IPv4 address comes as a mapped one where the listener is for both families.
std::pair<std::string, uint16_t> local_name(int socket) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&name), &size) != 0) return {};
  char text[INET6_ADDRSTRLEN] = "";
  if (name.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&name);
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    return {text, ntohs(v4->sin_port)};
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&name);
  if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
    inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], text, sizeof text);
  else
    inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
  return {text, ntohs(v6->sin6_port)};
}

// Closed with a reset, as a port where nobody listens would answer.
void refuse(UniqueFd client) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

}  // namespace

PortForward::PortForward(host::EventLoop& loop, host::CaughtConnections caught, GuestLink& link, uint32_t& next_channel)
    : loop_(loop), caught_(std::move(caught)), link_(link), next_channel_(next_channel) {
  if (auto added = loop_.add(caught_.listener.get(), EPOLLIN, [this](uint32_t) { accept_some(); }); !added.ok()) {
    log::warning("ports of the pod cannot be forwarded: {}", added.error().message());
    caught_ = {};
  }
}

PortForward::~PortForward() {
  *alive_ = false;
  if (caught_.listener) loop_.remove(caught_.listener.get());
}

void PortForward::accept_some() {
  UniqueFd client(accept4(caught_.listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!client) return;  // it has gone again
  auto [address, port] = local_name(client.get());
  if (!link_.ready() || *connections_ >= kMostConnections || port == 0) return refuse(std::move(client));
  forward(std::move(client), address, port);
}

void PortForward::forward(UniqueFd client, const std::string& address, uint16_t port) {
  const uint32_t channel = next_channel_++;
  UniqueFd twin(fcntl(client.get(), F_DUPFD_CLOEXEC, 3));
  auto shared = std::make_shared<UniqueFd>(std::move(twin));
  ++*connections_;
  auto counted = std::make_shared<bool>(true);
  auto ended = [count = connections_, counted] {
    if (std::exchange(*counted, false)) --*count;
  };
  // Before the guest hears of the channel: it may speak at once.
  if (auto joined = sandbox::join_socket(link_.mux(), channel, std::move(client), ended); !joined.ok()) {
    ended();
    return log::warning("a connection to port {} of the pod cannot be forwarded: {}", port, joined.error().message());
  }
  sandbox::v1::ConnectRequest request;
  request.set_address(address);
  request.set_port(port);
  request.set_channel(channel);
  link_.call<sandbox::v1::ConnectResponse>(
      "Connect", request, kConnectDeadline,
      [this, alive = alive_, shared, channel, port, ended](Result<sandbox::v1::ConnectResponse> connected) {
        if (connected.ok()) return shared->reset();
        log::debug("a connection to port {} of the pod is refused: {}", port, connected.error().message());
        refuse(std::move(*shared));
        if (*alive && link_.ready()) link_.mux().detach(channel);
        ended();  // does not run by itself for a channel that is detached
      });
}

}  // namespace caisson::microvm
