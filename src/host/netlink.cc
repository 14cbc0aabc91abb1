#include "host/netlink.h"

namespace caisson::host {

Result<NetlinkSocket> open_netlink() {
  NetlinkSocket socket(nl_socket_alloc());
  if (!socket) return make_error(ENOMEM, "netlink socket");
  if (int failed = nl_connect(socket.get(), NETLINK_ROUTE); failed < 0) return netlink_error(failed, "connect to rtnetlink");
  return socket;
}

Result<NetlinkCache> read_links(nl_sock* socket) {
  nl_cache* links = nullptr;
  if (int failed = rtnl_link_alloc_cache(socket, AF_UNSPEC, &links); failed < 0) return netlink_error(failed, "list network interfaces");
  return NetlinkCache(links);
}

Result<int> link_index(nl_cache* links, const std::string& name) {
  int index = rtnl_link_name2i(links, name.c_str());
  if (index == 0) return make_error(ENODEV, "network interface {} does not exist", name);
  return index;
}

Result<NetlinkAddress> parse_address(const std::string& text, int family) {
  nl_addr* address = nullptr;
  if (int failed = nl_addr_parse(text.c_str(), family, &address); failed < 0) return netlink_error(failed, "address \"{}\"", text);
  return NetlinkAddress(address);
}

}  // namespace caisson::host
