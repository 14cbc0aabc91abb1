// Connections from the host to a port inside: the guest's end of port forwarding.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "agent/agent_sandbox.h"
#include "sandbox/mux_socket.h"

namespace caisson::agent {
namespace {

struct Target {
  sockaddr_storage address{};
  socklen_t size = 0;
};

Result<Target> parse_target(const v1::ConnectRequest& request) {
  Target target;
  if (request.port() == 0 || request.port() > 65535) return make_error(EINVAL, "port: must be from 1 to 65535, is {}", request.port());
  auto* v4 = reinterpret_cast<sockaddr_in*>(&target.address);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&target.address);
  if (inet_pton(AF_INET, request.address().c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(request.port()));
    target.size = sizeof *v4;
  } else if (inet_pton(AF_INET6, request.address().c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(request.port()));
    target.size = sizeof *v6;
  } else {
    return make_error(EINVAL, "address: must be an IPv4 or IPv6 address");
  }
  return target;
}

}  // namespace

void AgentSandbox::Connect(v1::ConnectRequest request, rpc::Descriptors, Reply<v1::ConnectResponse> reply) {
  if (request.channel() == sandbox::kControlChannel) return reply(make_error(EINVAL, "channel: channel 0 is not for connections"));
  // What the host has sent on the channel meanwhile is thrown away with it.
  auto fail = [this, alive = alive_, channel = request.channel(), reply](Error error) {
    if (*alive) mux_.detach(channel);
    reply(std::move(error));
  };
  auto target = parse_target(request);
  if (!target.ok()) return fail(std::move(target).error());
  auto socket = std::make_shared<UniqueFd>(::socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!*socket) return fail(errno_error("make a TCP socket"));
  auto connected = [this, channel = request.channel(), socket, reply, fail](int code) {
    if (code != 0) return fail(Error(code, "connect inside the guest"));
    if (auto joined = sandbox::join_socket(mux_, channel, std::move(*socket), [] {}); !joined.ok()) return fail(std::move(joined).error());
    reply(v1::ConnectResponse());
  };
  if (connect(socket->get(), reinterpret_cast<sockaddr*>(&target->address), target->size) == 0) return connected(0);
  if (errno != EINPROGRESS) return connected(errno);
  auto added = loop_.add(socket->get(), EPOLLOUT, [this, alive = alive_, socket, connected](uint32_t) {
    if (!*alive) return;
    loop_.remove(socket->get());
    int code = 0;
    socklen_t size = sizeof code;
    getsockopt(socket->get(), SOL_SOCKET, SO_ERROR, &code, &size);
    connected(code);
  });
  if (!added.ok()) fail(std::move(added).error());
}

}  // namespace caisson::agent
