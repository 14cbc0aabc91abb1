#include <linux/if_addr.h>
#include <net/if.h>

#include <functional>

#include "host/netlink.h"
#include "host/network.h"

namespace caisson::host {
namespace {

std::string text_of(nl_addr* address) {
  char text[128];
  return address ? nl_addr2str(address, text, sizeof text) : "";
}

// Runs visit(object) for each object of a cache.
template <typename Object>
void for_each(nl_cache* cache, const std::function<void(Object*)>& visit) {
  for (nl_object* object = nl_cache_get_first(cache); object; object = nl_cache_get_next(object)) visit(reinterpret_cast<Object*>(object));
}

Result<void> read_interfaces(nl_sock* socket, nl_cache* links, Network& network) {
  nl_cache* raw = nullptr;
  if (int failed = rtnl_addr_alloc_cache(socket, &raw); failed < 0) return netlink_error(failed, "list addresses");
  NetlinkCache addresses(raw);
  for_each<rtnl_link>(links, [&](rtnl_link* link) {
    if (rtnl_link_get_flags(link) & IFF_LOOPBACK) return;
    NetworkInterface interface;
    interface.name = rtnl_link_get_name(link);
    if (const char* kind = rtnl_link_get_type(link)) interface.kind = kind;
    interface.mac = text_of(rtnl_link_get_addr(link));
    interface.mtu = rtnl_link_get_mtu(link);
    interface.up = rtnl_link_get_flags(link) & IFF_UP;
    int index = rtnl_link_get_ifindex(link);
    for_each<rtnl_addr>(addresses.get(), [&](rtnl_addr* address) {
      if (rtnl_addr_get_ifindex(address) != index) return;
      InterfaceAddress row;
      row.address = text_of(rtnl_addr_get_local(address));
      // A host's own address comes without its prefix length in the text.
      if (row.address.find('/') == std::string::npos) row.address += fmt::format("/{}", rtnl_addr_get_prefixlen(address));
      row.broadcast = text_of(rtnl_addr_get_broadcast(address));
      row.flags = rtnl_addr_get_flags(address);
      row.scope = rtnl_addr_get_scope(address);
      interface.addresses.push_back(row);
    });
    network.interfaces.push_back(std::move(interface));
  });
  return {};
}

std::string name_of(nl_cache* links, int index) {
  char name[IFNAMSIZ] = "";
  rtnl_link_i2name(links, index, name, sizeof name);
  return name;
}

Result<void> read_routes(nl_sock* socket, nl_cache* links, Network& network) {
  nl_cache* raw = nullptr;
  if (int failed = rtnl_route_alloc_cache(socket, AF_UNSPEC, 0, &raw); failed < 0) return netlink_error(failed, "list routes");
  NetlinkCache routes(raw);
  for_each<rtnl_route>(routes.get(), [&](rtnl_route* route) {
    if (rtnl_route_get_table(route) != RT_TABLE_MAIN || rtnl_route_get_protocol(route) == RTPROT_KERNEL) return;
    rtnl_nexthop* hop = rtnl_route_get_nnexthops(route) > 0 ? rtnl_route_nexthop_n(route, 0) : nullptr;
    NetworkRoute row;
    row.family = rtnl_route_get_family(route);
    nl_addr* destination = rtnl_route_get_dst(route);
    row.destination = destination && nl_addr_get_prefixlen(destination) > 0 ? text_of(destination) : "default";
    if (hop) {
      row.gateway = text_of(rtnl_route_nh_get_gateway(hop));
      row.interface = name_of(links, rtnl_route_nh_get_ifindex(hop));
      row.flags = rtnl_route_nh_get_flags(hop) & RTNH_F_ONLINK;
    }
    if (row.interface == "lo") return;
    row.source = text_of(rtnl_route_get_pref_src(route));
    row.scope = rtnl_route_get_scope(route);
    row.type = rtnl_route_get_type(route);
    row.metric = rtnl_route_get_priority(route);
    unsigned mtu = 0;
    if (rtnl_route_get_metric(route, RTAX_MTU, &mtu) == 0) row.mtu = mtu;
    network.routes.push_back(std::move(row));
  });
  return {};
}

Result<void> read_neighbours(nl_sock* socket, nl_cache* links, Network& network) {
  nl_cache* raw = nullptr;
  if (int failed = rtnl_neigh_alloc_cache(socket, &raw); failed < 0) return netlink_error(failed, "list neighbours");
  NetlinkCache neighbours(raw);
  for_each<rtnl_neigh>(neighbours.get(), [&](rtnl_neigh* neighbour) {
    if (rtnl_neigh_get_state(neighbour) != NUD_PERMANENT) return;
    NetworkNeighbour row;
    row.interface = name_of(links, rtnl_neigh_get_ifindex(neighbour));
    row.address = text_of(rtnl_neigh_get_dst(neighbour));
    row.mac = text_of(rtnl_neigh_get_lladdr(neighbour));
    row.state = NUD_PERMANENT;
    network.neighbours.push_back(std::move(row));
  });
  return {};
}

}  // namespace

Result<Network> read_network() {
  NetlinkSocket socket = TRY(open_netlink());
  NetlinkCache links = TRY(read_links(socket.get()));
  Network network;
  TRY(read_interfaces(socket.get(), links.get(), network));
  TRY(read_routes(socket.get(), links.get(), network));
  TRY(read_neighbours(socket.get(), links.get(), network));
  return network;
}

}  // namespace caisson::host
