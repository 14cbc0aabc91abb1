// The pod's network, taken over for a virtual machine: what an engine's plug-in (CNI, netavark, libnetwork) has set up in a network
// namespace is joined to taps, and described for the guest.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "host/event_loop.h"
#include "host/socket_lookup.h"
#include "sandbox.pb.h"

namespace caisson::microvm {

// A network device of the machine: the tap's descriptor goes to the VMM; the guest's device has the MAC of the interface that it stands
// for.
struct NetworkDevice {
  UniqueFd tap;
  std::string mac;
};

struct PodNetwork {
  sandbox::v1::Network description;
  std::vector<NetworkDevice> devices;  // as many as description.interfaces, in their order
  // Connections made in the namespace itself, for PortForward. Nothing where the node's kernel cannot do it; a warning has told why.
  std::optional<host::CaughtConnections> local_connections;
};

// The name of the tap of the machine's interface with this number, from 0.
std::string tap_name(size_t number);

struct TakeOver {
  std::vector<std::string> known;  // interfaces that have been taken over before: left as they are
  bool forwards = true;            // also catches connections made in the namespace
  bool may_add = true;             // false: further interfaces are the error ENOTSUP, which names them
};

// Reads the network namespace at path, makes a tap for each of its interfaces that is up (but loopback) and redirects one to the other.
// Done in a worker. The namespace keeps its addresses (an engine reads them there); frames never reach its own stack. Taps go with their
// descriptors. At most 16 interfaces. Errors name the namespace or the interface.
void take_over_network(host::EventLoop& loop, const std::string& path, TakeOver options, std::function<void(Result<PodNetwork>)> done);

}  // namespace caisson::microvm
