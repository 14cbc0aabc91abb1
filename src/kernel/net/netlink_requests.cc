#include "kernel/net/netlink_requests.h"

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/lwtunnel.h>
#include <linux/net_namespace.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace caisson::kernel {
namespace {

using Bytes = std::span<char>;

constexpr uint32_t kNobody = 0x7fffffff;      // no descriptor, no process, no namespace
constexpr uint16_t kUnknownRequest = 0xffff;  // beyond RTM_MAX
constexpr int kDeepest = 2;                   // a link's peer has none of its own

template <typename T>
bool take(Bytes bytes, T& value) {
  if (bytes.size() < sizeof value) return false;
  memcpy(&value, bytes.data(), sizeof value);
  return true;
}

Bytes from(Bytes bytes, size_t offset) { return bytes.subspan(std::min(offset, bytes.size())); }

// Attributes as nla_for_each_attr of the host's kernel finds them: up to the first that is none.
template <typename Visit>
void for_each_attribute(Bytes bytes, Visit&& visit) {
  nlattr header;
  while (take(bytes, header) && header.nla_len >= sizeof header && header.nla_len <= bytes.size()) {
    visit(header.nla_type & NLA_TYPE_MASK, bytes.subspan(sizeof header, header.nla_len - sizeof header));
    bytes = from(bytes, NLA_ALIGN(header.nla_len));
  }
}

void name_nobody(Bytes value) { memcpy(value.data(), &kNobody, std::min(value.size(), sizeof kNobody)); }

void name_nobody_in(Bytes attributes, std::initializer_list<int> types) {
  for_each_attribute(attributes, [&](int type, Bytes value) {
    if (std::find(types.begin(), types.end(), type) != types.end()) name_nobody(value);
  });
}

// Kinds of links whose settings hold no descriptors, and which leave nothing outside the network namespace.
constexpr std::string_view kLinkKinds[] = {"veth",   "dummy",  "bridge", "bond",   "vlan",   "macvlan",   "ipvlan",
                                           "vxlan",  "geneve", "gre",    "gretap", "ip6gre", "ip6gretap", "ipip",
                                           "ip6tnl", "sit",    "vti",    "vti6",   "vrf",    "ifb"};
// Of them, in a network that a guest has made: each kind is code of the host's that it reaches, and may have the host load a module.
constexpr std::string_view kRoomLinkKinds[] = {"veth", "dummy"};

// What a request is once it has been looked at.
enum class Verdict { Passes, NotOffered };

std::string_view text_of(Bytes value) {
  const std::string_view text(value.data(), value.size());
  return text.substr(0, text.find('\0'));
}

Verdict disarm_link(Bytes attributes, NetlinkScope scope, int depth);

Verdict disarm_link_info(Bytes attributes, NetlinkScope scope, int depth) {
  const std::span<const std::string_view> kinds =
      scope == NetlinkScope::Room ? std::span<const std::string_view>(kRoomLinkKinds) : std::span<const std::string_view>(kLinkKinds);
  Verdict verdict = Verdict::Passes;
  bool peer = false;
  for_each_attribute(attributes, [&](int type, Bytes value) {
    if (type != IFLA_INFO_KIND) return;
    if (std::find(kinds.begin(), kinds.end(), text_of(value)) == kinds.end()) verdict = Verdict::NotOffered;
    peer = peer || text_of(value) == "veth";
  });
  if (!peer) return verdict;
  for_each_attribute(attributes, [&](int type, Bytes data) {
    if (type != IFLA_INFO_DATA) return;
    for_each_attribute(data, [&](int inner, Bytes value) {
      if (inner == VETH_INFO_PEER && disarm_link(from(value, sizeof(ifinfomsg)), scope, depth + 1) == Verdict::NotOffered)
        verdict = Verdict::NotOffered;
    });
  });
  return verdict;
}

Verdict disarm_link(Bytes attributes, NetlinkScope scope, int depth) {
  if (depth > kDeepest) return Verdict::NotOffered;
  Verdict verdict = Verdict::Passes;
  name_nobody_in(attributes, {IFLA_NET_NS_PID, IFLA_NET_NS_FD, IFLA_LINK_NETNSID, IFLA_TARGET_NETNSID});
  for_each_attribute(attributes, [&](int type, Bytes value) {
    if (type == IFLA_XDP) name_nobody_in(value, {IFLA_XDP_FD, IFLA_XDP_EXPECTED_FD});
    if (type == IFLA_LINKINFO && disarm_link_info(value, scope, depth) == Verdict::NotOffered) verdict = Verdict::NotOffered;
  });
  return verdict;
}

// Tunnels by route: not those that run programs.
Verdict check_encapsulation(Bytes attributes, NetlinkScope scope, int type_attribute) {
  Verdict verdict = Verdict::Passes;
  for_each_attribute(attributes, [&](int type, Bytes value) {
    uint16_t kind = LWTUNNEL_ENCAP_NONE;
    if (type != type_attribute || !take(value, kind)) return;
    if (kind == LWTUNNEL_ENCAP_NONE) return;
    if (scope == NetlinkScope::Room) verdict = Verdict::NotOffered;
    if (kind != LWTUNNEL_ENCAP_MPLS && kind != LWTUNNEL_ENCAP_IP && kind != LWTUNNEL_ENCAP_IP6 && kind != LWTUNNEL_ENCAP_SEG6)
      verdict = Verdict::NotOffered;
  });
  return verdict;
}

Verdict check_route(Bytes attributes, NetlinkScope scope) {
  Verdict verdict = check_encapsulation(attributes, scope, RTA_ENCAP_TYPE);
  for_each_attribute(attributes, [&](int type, Bytes hops) {
    if (type != RTA_MULTIPATH) return;
    rtnexthop hop;
    while (take(hops, hop) && hop.rtnh_len >= sizeof hop && hop.rtnh_len <= hops.size()) {
      if (check_encapsulation(hops.subspan(sizeof hop, hop.rtnh_len - sizeof hop), scope, RTA_ENCAP_TYPE) == Verdict::NotOffered)
        verdict = Verdict::NotOffered;
      hops = from(hops, RTNH_ALIGN(hop.rtnh_len));
    }
  });
  return verdict;
}

Verdict disarm_links(uint16_t type, Bytes payload, NetlinkScope scope) {
  // Old programs ask with a struct rtgenmsg (rtnl_dump_ifinfo of the host's kernel).
  const size_t header = payload.size() < sizeof(ifinfomsg) ? NLMSG_ALIGN(sizeof(rtgenmsg)) : sizeof(ifinfomsg);
  const Verdict verdict = disarm_link(from(payload, header), scope, 0);
  // To ask for links of a kind, or to change one without a word of its kind, harms nobody.
  return type == RTM_NEWLINK ? verdict : Verdict::Passes;
}

Verdict disarm_addresses(uint16_t, Bytes payload, NetlinkScope) {
  name_nobody_in(from(payload, sizeof(ifaddrmsg)), {IFA_TARGET_NETNSID});
  return Verdict::Passes;
}

Verdict disarm_namespaces(uint16_t, Bytes payload, NetlinkScope) {
  name_nobody_in(from(payload, NLMSG_ALIGN(sizeof(rtgenmsg))), {NETNSA_PID, NETNSA_FD, NETNSA_TARGET_NSID});
  return Verdict::Passes;
}

Verdict check_routes(uint16_t, Bytes payload, NetlinkScope scope) { return check_route(from(payload, sizeof(rtmsg)), scope); }
Verdict check_next_hops(uint16_t, Bytes payload, NetlinkScope scope) {
  return check_encapsulation(from(payload, sizeof(nhmsg)), scope, NHA_ENCAP_TYPE);
}
Verdict nothing_to_check(uint16_t, Bytes, NetlinkScope) { return Verdict::Passes; }

// The requests that are offered, by the first of four types each (new, delete, get, set); those of no row can ask only.
struct RequestRow {
  uint16_t first;
  bool in_rooms;
  Verdict (*look)(uint16_t type, Bytes payload, NetlinkScope scope);
};
constexpr RequestRow kRequests[] = {
    {RTM_NEWLINK, true, disarm_links},      {RTM_NEWADDR, true, disarm_addresses},   {RTM_NEWROUTE, true, check_routes},
    {RTM_NEWNEIGH, true, nothing_to_check}, {RTM_NEWRULE, true, nothing_to_check},   {RTM_NEWADDRLABEL, true, nothing_to_check},
    {RTM_NEWMDB, false, nothing_to_check},  {RTM_NEWNSID, false, disarm_namespaces}, {RTM_NEWNEXTHOP, false, check_next_hops},
    {RTM_NEWLINKPROP, false, disarm_links}, {RTM_NEWVLAN, false, nothing_to_check},
};

Verdict look_at(uint16_t type, Bytes payload, NetlinkScope scope) {
  if (type < RTM_BASE) return Verdict::Passes;  // of netlink itself
  const int kind = (type - RTM_BASE) % 4;
  const bool asks = kind == RTM_GETLINK - RTM_BASE;
  for (const RequestRow& row : kRequests) {
    if (row.first != type - kind) continue;
    const Verdict verdict = row.look(type, payload, scope);
    return scope == NetlinkScope::Room && !row.in_rooms && !asks ? Verdict::NotOffered : verdict;
  }
  return asks ? Verdict::Passes : Verdict::NotOffered;
}

}  // namespace

void disarm_netlink(int protocol, Bytes bytes, NetlinkScope scope) {
  if (protocol != NETLINK_ROUTE) return;
  nlmsghdr header;
  // As netlink_rcv_skb of the host's kernel goes: it ignores a rest that is no message (`ip` sends its whole buffer).
  while (take(bytes, header) && header.nlmsg_len >= sizeof header && header.nlmsg_len <= bytes.size()) {
    if (look_at(header.nlmsg_type, bytes.subspan(sizeof header, header.nlmsg_len - sizeof header), scope) == Verdict::NotOffered) {
      header.nlmsg_type = kUnknownRequest;
      memcpy(bytes.data(), &header, sizeof header);
    }
    bytes = from(bytes, NLMSG_ALIGN(header.nlmsg_len));
  }
}

}  // namespace caisson::kernel
