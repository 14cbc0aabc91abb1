#include "sandbox/network_message.h"

namespace caisson::sandbox {
namespace {

constexpr int kMostInterfaces = 64;
constexpr int kMostRows = 4096;

}  // namespace

v1::Network network_to_message(const host::Network& network) {
  v1::Network message;
  for (const host::NetworkInterface& interface : network.interfaces) {
    v1::Network::Interface* row = message.add_interfaces();
    row->set_name(interface.name);
    row->set_mac(interface.mac);
    row->set_mtu(interface.mtu);
    row->set_up(interface.up);
    for (const host::InterfaceAddress& address : interface.addresses) {
      v1::Network::Address* entry = row->add_addresses();
      entry->set_address(address.address);
      entry->set_broadcast(address.broadcast);
      entry->set_flags(address.flags);
      entry->set_scope(address.scope);
    }
  }
  for (const host::NetworkRoute& route : network.routes) {
    v1::Network::Route* row = message.add_routes();
    row->set_family(route.family);
    row->set_destination(route.destination);
    row->set_gateway(route.gateway);
    row->set_interface(route.interface);
    row->set_source(route.source);
    row->set_scope(route.scope);
    row->set_type(route.type);
    row->set_metric(route.metric);
    row->set_mtu(route.mtu);
    row->set_flags(route.flags);
  }
  for (const host::NetworkNeighbour& neighbour : network.neighbours) {
    v1::Network::Neighbour* row = message.add_neighbours();
    row->set_interface(neighbour.interface);
    row->set_address(neighbour.address);
    row->set_mac(neighbour.mac);
    row->set_state(neighbour.state);
  }
  return message;
}

Result<host::Network> network_from_message(const v1::Network& message) {
  if (message.interfaces_size() > kMostInterfaces || message.routes_size() > kMostRows || message.neighbours_size() > kMostRows)
    return make_error(EINVAL, "network: at most {} interfaces, {} routes and {} neighbours", kMostInterfaces, kMostRows, kMostRows);
  host::Network network;
  for (const v1::Network::Interface& row : message.interfaces()) {
    host::NetworkInterface interface;
    interface.name = row.name();
    interface.mac = row.mac();
    interface.mtu = row.mtu();
    interface.up = row.up();
    for (const v1::Network::Address& entry : row.addresses())
      interface.addresses.push_back({entry.address(), entry.broadcast(), entry.flags(), entry.scope()});
    network.interfaces.push_back(std::move(interface));
  }
  for (const v1::Network::Route& row : message.routes())
    network.routes.push_back({row.family(), row.destination(), row.gateway(), row.interface(), row.source(), row.scope(), row.type(),
                              row.metric(), row.mtu(), row.flags()});
  for (const v1::Network::Neighbour& row : message.neighbours())
    network.neighbours.push_back({row.interface(), row.address(), row.mac(), row.state()});
  return network;
}

}  // namespace caisson::sandbox
