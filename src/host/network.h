// A network namespace as plain data, by rtnetlink(7): what an engine's network plug-in has set up is read on the host and made again inside
// a guest.
//
// Every call is about the calling process's network namespace. Blocking; done by libnl.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::host {

struct InterfaceAddress {
  std::string address;    // "10.88.0.2/16", "fd00::2/64"
  std::string broadcast;  // "" none
  uint32_t flags = 0;     // IFA_F_*
  int scope = 0;          // RT_SCOPE_*
};

struct NetworkInterface {
  std::string name;
  std::string kind;  // "veth", "macvlan", "" for hardware
  std::string mac;   // "02:42:ac:11:00:02"
  uint32_t mtu = 1500;
  bool up = false;
  std::vector<InterfaceAddress> addresses;
};

struct NetworkRoute {
  int family = 0;           // AF_INET, AF_INET6
  std::string destination;  // "default" or "10.0.0.0/8"
  std::string gateway;      // "" none: on link
  std::string interface;
  std::string source;  // preferred source, "" none
  int scope = 0;
  int type = 0;  // RTN_*
  uint32_t metric = 0;
  uint32_t mtu = 0;
  uint32_t flags = 0;  // RTNH_F_ONLINK
};

struct NetworkNeighbour {
  std::string interface;
  std::string address;
  std::string mac;
  int state = 0;  // NUD_*
};

struct Network {
  std::vector<NetworkInterface> interfaces;  // without loopback
  std::vector<NetworkRoute> routes;          // main table, without what the kernel makes of addresses by itself
  std::vector<NetworkNeighbour> neighbours;  // permanent ones
};

Result<Network> read_network();

// Makes interfaces found by their MAC what the description says: name, MTU, addresses, up; then routes and neighbours. Loopback is brought
// up. Errors name the interface, address or route. What is there already is left as it is.
Result<void> apply_network(const Network& network);

// A tap interface (drivers/net/tun) in this namespace, up, with offloads (IFF_VNET_HDR); the descriptor is what a VMM reads and writes. It
// goes with the descriptor.
Result<UniqueFd> create_tap(const std::string& name, uint32_t mtu);

// Joins two interfaces: what arrives on one leaves by the other (tc: ingress qdisc, u32 match-all filter, mirred redirect), both ways.
Result<void> redirect_between(const std::string& left, const std::string& right);

// Removes the addresses of an interface in this namespace, so that this kernel does not answer for the guest that has them now. Returns
// nothing if there are none.
Result<void> flush_addresses(const std::string& interface);

}  // namespace caisson::host
