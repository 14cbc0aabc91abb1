#include "host/network_move.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sched.h>

#include <algorithm>

#include "host/namespaces.h"
#include "host/netlink.h"
#include "host/network.h"

namespace caisson::host {
namespace {

Result<void> change_namespace(const std::string& name, int network_namespace, const std::string& new_name) {
  NetlinkSocket socket = TRY(open_netlink());
  NetlinkCache links = TRY(read_links(socket.get()));
  Link link(rtnl_link_get_by_name(links.get(), name.c_str()));
  if (!link) return make_error(ENODEV, "network interface {} does not exist", name);
  Link change(rtnl_link_alloc());
  rtnl_link_set_ns_fd(change.get(), network_namespace);
  rtnl_link_set_name(change.get(), new_name.c_str());
  if (int failed = rtnl_link_change(socket.get(), link.get(), change.get(), 0); failed < 0)
    return netlink_error(failed, "network interface {} cannot be moved as {}", name, new_name);
  return {};
}

}  // namespace

Result<void> move_interface(const std::string& name, int network_namespace, const std::string& new_name) {
  const Network here = TRY(read_network());
  auto found = std::find_if(here.interfaces.begin(), here.interfaces.end(),
                            [&](const NetworkInterface& interface) { return interface.name == name; });
  if (found == here.interfaces.end()) return make_error(ENODEV, "network interface {} does not exist", name);
  NetworkInterface moved = *found;
  moved.name = new_name;
  moved.up = true;
  std::erase_if(moved.addresses, [](const InterfaceAddress& address) {
    return address.scope != RT_SCOPE_UNIVERSE || (address.flags & IFA_F_PERMANENT) == 0;
  });
  const UniqueFd own = TRY(own_namespace(*find_namespace_type("network")));
  TRY(change_namespace(name, network_namespace, new_name));
  TRY(join_namespace(network_namespace, CLONE_NEWNET, "the container's network namespace"));
  auto applied = apply_network({.interfaces = {moved}, .routes = {}, .neighbours = {}});
  TRY(join_namespace(own.get(), CLONE_NEWNET, "the runtime's own network namespace again"));
  return applied;
}

}  // namespace caisson::host
