#include "kernel/net/netlink_requests.h"

#include <gtest/gtest.h>
#include <linux/if_link.h>
#include <linux/lwtunnel.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>
#include <sys/socket.h>

#include <string>

#include "base/unique_fd.h"

namespace caisson::kernel {
namespace {

std::string attribute(int type, std::string_view value) {
  nlattr header{static_cast<uint16_t>(sizeof(nlattr) + value.size()), static_cast<uint16_t>(type)};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += value;
  bytes.resize(NLA_ALIGN(bytes.size()));
  return bytes;
}
template <typename T>
std::string number(int type, T value) {
  return attribute(type, {reinterpret_cast<const char*>(&value), sizeof value});
}
template <typename Header>
std::string request(int type, const std::string& attributes, Header header = {}) {
  std::string payload(reinterpret_cast<const char*>(&header), sizeof header);
  payload.resize(NLMSG_ALIGN(payload.size()));
  payload += attributes;
  nlmsghdr first{};
  first.nlmsg_len = static_cast<uint32_t>(NLMSG_HDRLEN + payload.size());
  first.nlmsg_type = static_cast<uint16_t>(type);
  first.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  return std::string(reinterpret_cast<const char*>(&first), sizeof first) + payload;
}
std::string disarmed(std::string bytes) {
  disarm_netlink(NETLINK_ROUTE, bytes);
  return bytes;
}
int type_of(const std::string& bytes) {
  nlmsghdr header;
  memcpy(&header, bytes.data(), sizeof header);
  return header.nlmsg_type;
}

// What this kernel says: the errno of the answer to one request, in a network namespace of its own.
int answer_to(const std::string& bytes) {
  const UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd || send(fd.get(), bytes.data(), bytes.size(), 0) < 0) return -1;
  alignas(nlmsghdr) char reply[8192];
  const ssize_t size = recv(fd.get(), reply, sizeof reply, 0);
  nlmsghdr header;
  if (size < static_cast<ssize_t>(sizeof header)) return -1;
  memcpy(&header, reply, sizeof header);
  int error = 0;
  if (header.nlmsg_type == NLMSG_ERROR) memcpy(&error, reply + NLMSG_HDRLEN, sizeof error);
  return -error;
}

constexpr uint32_t kNobody = 0x7fffffff;

TEST(NetlinkRequests, DescriptorsProcessesAndNamespacesAreThoseOfNobody) {
  for (const int type : {IFLA_NET_NS_FD, IFLA_NET_NS_PID, IFLA_LINK_NETNSID, IFLA_TARGET_NETNSID})
    for (const int kind : {RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK})
      EXPECT_EQ(disarmed(request<ifinfomsg>(kind, number(IFLA_MTU, 1400) + number(type, 5))),
                request<ifinfomsg>(kind, number(IFLA_MTU, 1400) + number(type, kNobody)))
          << type << " " << kind;
  for (const int type : {NETNSA_FD, NETNSA_PID, NETNSA_TARGET_NSID})
    EXPECT_EQ(disarmed(request<rtgenmsg>(RTM_GETNSID, number(type, 3))), request<rtgenmsg>(RTM_GETNSID, number(type, kNobody)));
  EXPECT_EQ(disarmed(request<ifaddrmsg>(RTM_GETADDR, number(10 /* IFA_TARGET_NETNSID */, 0))),
            request<ifaddrmsg>(RTM_GETADDR, number(10, kNobody)));
  const auto program = [](uint32_t fd) { return attribute(IFLA_XDP | NLA_F_NESTED, number(IFLA_XDP_FD, fd)); };
  EXPECT_EQ(disarmed(request<ifinfomsg>(RTM_SETLINK, program(7))), request<ifinfomsg>(RTM_SETLINK, program(kNobody)));
}

TEST(NetlinkRequests, APeersAreTooAndEveryRequestOfASend) {
  const auto pair = [](uint32_t whose) {
    const ifinfomsg peer{};
    std::string inner(reinterpret_cast<const char*>(&peer), sizeof peer);
    inner += number(IFLA_NET_NS_PID, whose);
    return request<ifinfomsg>(RTM_NEWLINK, attribute(IFLA_LINKINFO, attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, inner)) +
                                                                        attribute(IFLA_INFO_KIND, std::string_view("veth\0", 5))));
  };
  EXPECT_EQ(disarmed(pair(1)), pair(kNobody));
  EXPECT_EQ(disarmed(pair(1) + pair(2) + "rest"), pair(kNobody) + pair(kNobody) + "rest");
}

TEST(NetlinkRequests, AnOldHeaderHidesNothing) {
  // rtgenmsg, then one attribute: less than a struct ifinfomsg.
  EXPECT_EQ(disarmed(request<rtgenmsg>(RTM_GETLINK, number(IFLA_TARGET_NETNSID, 0))),
            request<rtgenmsg>(RTM_GETLINK, number(IFLA_TARGET_NETNSID, kNobody)));
}

TEST(NetlinkRequests, OtherRequestsPassAsTheyAre) {
  for (const std::string& bytes :
       {request<ifinfomsg>(RTM_GETLINK, number(IFLA_EXT_MASK, 1)),
        request<ifinfomsg>(RTM_NEWLINK, attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, "dummy"))),
        request<rtmsg>(RTM_NEWROUTE, number(RTA_OIF, 2)), request<rtmsg>(RTM_GETROUTE, ""), request<tcmsg>(RTM_GETQDISC, ""),
        request<ndmsg>(RTM_NEWNEIGH, number(NDA_DST, 1)), request<nlmsgerr>(NLMSG_NOOP, ""), std::string("short"), std::string()})
    EXPECT_EQ(disarmed(bytes), bytes);
  // sock_diag(7) has other types.
  std::string other = request<ifinfomsg>(RTM_NEWQDISC, "");
  const std::string before = other;
  disarm_netlink(NETLINK_SOCK_DIAG, other);
  EXPECT_EQ(other, before);
}

TEST(NetlinkRequests, WhatRunsProgramsIsNotOffered) {
  const auto route = [](uint16_t kind) { return request<rtmsg>(RTM_NEWROUTE, number(RTA_ENCAP_TYPE, kind)); };
  EXPECT_EQ(type_of(disarmed(route(LWTUNNEL_ENCAP_BPF))), 0xffff);
  EXPECT_EQ(type_of(disarmed(route(LWTUNNEL_ENCAP_SEG6_LOCAL))), 0xffff);
  EXPECT_EQ(type_of(disarmed(route(LWTUNNEL_ENCAP_IP))), RTM_NEWROUTE);
  const rtnexthop none{static_cast<uint16_t>(sizeof(rtnexthop)), 0, 0, 0};
  std::string second = number<uint16_t>(RTA_ENCAP_TYPE, LWTUNNEL_ENCAP_BPF);
  const rtnexthop hop{static_cast<uint16_t>(sizeof(rtnexthop) + second.size()), 0, 0, 0};
  const std::string hops = std::string(reinterpret_cast<const char*>(&none), sizeof none) +
                           std::string(reinterpret_cast<const char*>(&hop), sizeof hop) + second;
  EXPECT_EQ(type_of(disarmed(request<rtmsg>(RTM_NEWROUTE, attribute(RTA_MULTIPATH, hops)))), 0xffff);
  for (const int type : {+RTM_NEWQDISC, +RTM_NEWTFILTER, +RTM_NEWACTION, +RTM_NEWCHAIN, +RTM_SETDCB, 0x7ff0})
    EXPECT_EQ(type_of(disarmed(request<tcmsg>(type, ""))), 0xffff) << type;
  for (const char* kind : {"gtp", "ppp", "macvtap", "tun", "wireguard", "vet", "vethh", ""})
    EXPECT_EQ(type_of(disarmed(request<ifinfomsg>(RTM_NEWLINK, attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind))))), 0xffff)
        << kind;
}

TEST(NetlinkRequests, TheHostAnswersAsForWhatIsNotThere) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const auto link = [](const std::string& attributes) {
    ifinfomsg lo{};
    lo.ifi_index = 1;
    return request<ifinfomsg>(RTM_SETLINK, attributes, lo);
  };
  EXPECT_EQ(answer_to(disarmed(link(number(IFLA_NET_NS_FD, 0)))), EBADF);
  EXPECT_EQ(answer_to(disarmed(link(number(IFLA_NET_NS_PID, 1)))), ESRCH);
  EXPECT_EQ(answer_to(disarmed(request<rtgenmsg>(RTM_GETNSID, number(NETNSA_FD, 0)))), EBADF);
  EXPECT_EQ(answer_to(disarmed(request<rtgenmsg>(RTM_GETNSID, number(NETNSA_PID, 1)))), ESRCH);
  EXPECT_EQ(answer_to(disarmed(request<ifinfomsg>(RTM_GETLINK, number(IFLA_TARGET_NETNSID, 0)))), EINVAL);
  EXPECT_EQ(answer_to(disarmed(request<tcmsg>(RTM_NEWQDISC, ""))), EOPNOTSUPP);
}

}  // namespace
}  // namespace caisson::kernel
