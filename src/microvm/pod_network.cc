#include "microvm/pod_network.h"

#include <sched.h>

#include <algorithm>

#include "base/log.h"
#include "host/namespaces.h"
#include "host/network.h"
#include "host/worker.h"
#include "sandbox/network_message.h"

namespace caisson::microvm {
namespace {

constexpr size_t kMostInterfaces = 16;
constexpr std::chrono::seconds kDeadline{20};
constexpr const char* kTapPrefix = "caisson";  // and a number: below the 15 characters of an interface's name

void catch_local_connections(host::WorkerOutput& output) {
  auto caught = host::catch_connections();
  if (!caught.ok()) return log::warning("ports of the pod cannot be forwarded (crictl port-forward): {}", caught.error().message());
  output.fds.push_back(std::move(caught->listener));
  output.fds.push_back(std::move(caught->link));
}

Error cannot_be_added(const host::Network& network) {
  std::string names;
  for (const host::NetworkInterface& row : network.interfaces) names += (names.empty() ? "" : ", ") + row.name;
  return make_error(
      ENOTSUP,
      "{} came into the network namespace after the container was created, and this virtual machine takes no network interface "
      "while it runs",
      names);
}

// Frames of what is taken over never reach the namespace's own stack again: done to the node's, it would cut the node off.
Result<void> refuse_the_nodes(const host::NamespaceType& type, int ns, const std::string& path) {
  for (const char* process : {"self", "1"}) {
    auto theirs = host::open_namespace(type, fmt::format("/proc/{}/ns/{}", process, type.file));
    if (!theirs.ok()) continue;  // PID 1's is not always shown, and what cannot be opened cannot be entered
    if (TRY(host::same_namespace(ns, theirs->get())))
      return make_error(EINVAL, "{} is the node's own network namespace: a virtual machine takes over what a pod's has, never the node's",
                        path);
  }
  return {};
}

// Runs in a worker: it enters the namespace and ends there.
Result<host::WorkerOutput> take_over(const std::string& path, const TakeOver& options) {
  const host::NamespaceType* type = host::find_namespace_type("network");
  UniqueFd ns = TRY(host::open_namespace(*type, path));
  TRY(refuse_the_nodes(*type, ns.get(), path));
  TRY(host::join_namespace(ns.get(), CLONE_NEWNET, path));
  host::Network network = TRY(host::read_network());
  auto is_known = [&](const std::string& name) {
    return std::find(options.known.begin(), options.known.end(), name) != options.known.end();
  };
  std::erase_if(network.interfaces,
                [&](const host::NetworkInterface& row) { return !row.up || row.name.starts_with(kTapPrefix) || is_known(row.name); });
  if (!options.may_add && !network.interfaces.empty()) return cannot_be_added(network);
  if (const size_t all = options.known.size() + network.interfaces.size(); all > kMostInterfaces)
    return make_error(EINVAL, "network namespace {} has {} interfaces: a virtual machine takes {} at most", path, all, kMostInterfaces);
  auto taken = [&](const std::string& name) {
    return std::any_of(network.interfaces.begin(), network.interfaces.end(), [&](const auto& row) { return row.name == name; });
  };
  std::erase_if(network.routes, [&](const host::NetworkRoute& row) { return !row.interface.empty() && !taken(row.interface); });
  std::erase_if(network.neighbours, [&](const host::NetworkNeighbour& row) { return !taken(row.interface); });
  host::WorkerOutput output;
  for (size_t i = 0; i < network.interfaces.size(); ++i) {
    std::string tap = tap_name(options.known.size() + i);
    output.fds.push_back(TRY(host::create_tap(tap, network.interfaces[i].mtu)));
    TRY(host::redirect_between(network.interfaces[i].name, tap));
  }
  if (options.forwards) catch_local_connections(output);
  output.payload = sandbox::network_to_message(network).SerializeAsString();
  return output;
}

Result<PodNetwork> unpack(host::WorkerOutput output) {
  PodNetwork network;
  const bool parsed = network.description.ParseFromString(output.payload);
  const size_t devices = static_cast<size_t>(network.description.interfaces_size());
  if (!parsed || (output.fds.size() != devices && output.fds.size() != devices + 2))
    return make_error(EPROTO, "the description of the pod's network got lost on its way");
  if (output.fds.size() > devices)
    network.local_connections = host::CaughtConnections{std::move(output.fds[devices]), std::move(output.fds[devices + 1])};
  for (size_t i = 0; i < devices; ++i)
    network.devices.push_back({std::move(output.fds[i]), network.description.interfaces(static_cast<int>(i)).mac()});
  return network;
}

}  // namespace

std::string tap_name(size_t number) { return fmt::format("{}{}", kTapPrefix, number); }

void take_over_network(host::EventLoop& loop, const std::string& path, TakeOver how, std::function<void(Result<PodNetwork>)> done) {
  host::WorkerOptions options;
  options.deadline = kDeadline;
  host::run_worker(
      loop, options, [path, how] { return take_over(path, how); },
      [done = std::move(done)](Result<host::WorkerOutput> output) {
        if (!output.ok()) return done(std::move(output).error().within("linux.namespaces (network)"));
        done(unpack(std::move(output).value()));
      });
}

}  // namespace caisson::microvm
