// libnl's objects with owners, and its errors as ours.
#pragma once

#include <netlink/cache.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/route/act/mirred.h>
#include <netlink/route/action.h>
#include <netlink/route/addr.h>
#include <netlink/route/classifier.h>
#include <netlink/route/cls/u32.h>
#include <netlink/route/link.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/route.h>

#include <memory>

#include "base/result.h"

namespace caisson::host {

template <auto Free>
struct NetlinkFree {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using NetlinkSocket = std::unique_ptr<nl_sock, NetlinkFree<nl_socket_free>>;
using NetlinkCache = std::unique_ptr<nl_cache, NetlinkFree<nl_cache_free>>;
using NetlinkAddress = std::unique_ptr<nl_addr, NetlinkFree<nl_addr_put>>;
using Link = std::unique_ptr<rtnl_link, NetlinkFree<rtnl_link_put>>;
using LinkAddress = std::unique_ptr<rtnl_addr, NetlinkFree<rtnl_addr_put>>;
using Route = std::unique_ptr<rtnl_route, NetlinkFree<rtnl_route_put>>;
using Neighbour = std::unique_ptr<rtnl_neigh, NetlinkFree<rtnl_neigh_put>>;
using Qdisc = std::unique_ptr<rtnl_qdisc, NetlinkFree<rtnl_qdisc_put>>;
using Classifier = std::unique_ptr<rtnl_cls, NetlinkFree<rtnl_cls_put>>;
using Action = std::unique_ptr<rtnl_act, NetlinkFree<rtnl_act_put>>;

// libnl's negative code as an Error.
template <typename... Args>
Error netlink_error(int code, fmt::format_string<Args...> format, Args&&... args) {
  return make_error(-code == NLE_EXIST ? EEXIST : EIO, "{}: {}", fmt::format(format, std::forward<Args>(args)...), nl_geterror(code));
}

// A connected NETLINK_ROUTE socket of the calling process's network namespace.
Result<NetlinkSocket> open_netlink();
Result<NetlinkCache> read_links(nl_sock* socket);
// ENODEV names the interface.
Result<int> link_index(nl_cache* links, const std::string& name);
Result<NetlinkAddress> parse_address(const std::string& text, int family);

}  // namespace caisson::host
