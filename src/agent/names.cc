// The guest's end of asking for names in the pod's network namespace on the node.
#include "agent/agent_sandbox.h"
#include "agent/name_server.h"

namespace caisson::agent {
namespace {

constexpr uint16_t kDnsPort = 53;
constexpr size_t kMostServers = 8;

}  // namespace

void AgentSandbox::ServeNames(v1::ServeNamesRequest request, rpc::Descriptors, Reply<v1::ServeNamesResponse> reply) {
  if (request.channel() == sandbox::kControlChannel) return reply(make_error(EINVAL, "channel: channel 0 is not for names"));
  if (name_servers_.size() >= kMostServers) return reply(make_error(ENOSPC, "there are {} name servers already", kMostServers));
  auto server = NameServer::create(loop_, mux_, request.address(), kDnsPort, request.channel());
  if (!server.ok()) return reply(std::move(server).error());
  name_servers_.push_back(std::move(*server));
  reply(v1::ServeNamesResponse());
}

}  // namespace caisson::agent
