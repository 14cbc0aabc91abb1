#include "kernel/net/host_options.h"

#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace caisson::kernel {
namespace {

constexpr bool yes = true, no = false;

constexpr HostOption kOptions[] = {
    // SOL_SOCKET: numbers
    {SOL_SOCKET, SO_DEBUG, yes, no, 4},
    {SOL_SOCKET, SO_REUSEADDR, yes, yes, 4},
    {SOL_SOCKET, SO_ERROR, yes, no, 4},
    {SOL_SOCKET, SO_DONTROUTE, yes, yes, 4},
    {SOL_SOCKET, SO_BROADCAST, yes, yes, 4},
    {SOL_SOCKET, SO_SNDBUF, yes, yes, 4},
    {SOL_SOCKET, SO_RCVBUF, yes, yes, 4},
    {SOL_SOCKET, SO_SNDBUFFORCE, no, yes, 4, kCapNetAdmin},
    {SOL_SOCKET, SO_RCVBUFFORCE, no, yes, 4, kCapNetAdmin},
    {SOL_SOCKET, SO_KEEPALIVE, yes, yes, 4},
    {SOL_SOCKET, SO_OOBINLINE, yes, yes, 4},
    {SOL_SOCKET, SO_PRIORITY, yes, yes, 4},
    {SOL_SOCKET, SO_NO_CHECK, yes, yes, 4},
    {SOL_SOCKET, SO_LINGER, yes, yes, 8},
    {SOL_SOCKET, SO_REUSEPORT, yes, yes, 4},
    {SOL_SOCKET, SO_RCVLOWAT, yes, yes, 4},
    {SOL_SOCKET, SO_SNDLOWAT, yes, no, 4},
    {SOL_SOCKET, SO_TIMESTAMP, yes, yes, 4},
    {SOL_SOCKET, SO_TIMESTAMPNS, yes, yes, 4},
    {SOL_SOCKET, SO_ACCEPTCONN, yes, no, 4},
    {SOL_SOCKET, SO_BPF_EXTENSIONS, yes, no, 4},
    {SOL_SOCKET, SO_MARK, yes, yes, 4, kCapNetAdmin},
    {SOL_SOCKET, SO_RXQ_OVFL, yes, yes, 4},
    {SOL_SOCKET, SO_INCOMING_CPU, yes, yes, 4},
    {SOL_SOCKET, SO_BUSY_POLL, yes, no, 4},
    {SOL_SOCKET, SO_MAX_PACING_RATE, yes, yes, 8},
    {SOL_SOCKET, SO_COOKIE, yes, no, 8},
    {SOL_SOCKET, SO_MEMINFO, yes, no, 64},
    {SOL_SOCKET, SO_BINDTODEVICE, yes, yes, IFNAMSIZ, kCapNetRaw},
    {SOL_SOCKET, SO_BINDTOIFINDEX, yes, yes, 4, kCapNetRaw},
    // IPv4
    {IPPROTO_IP, IP_TOS, yes, yes, 4},
    {IPPROTO_IP, IP_TTL, yes, yes, 4},
    {IPPROTO_IP, IP_MINTTL, yes, yes, 4},
    {IPPROTO_IP, IP_HDRINCL, yes, yes, 4},
    {IPPROTO_IP, IP_OPTIONS, yes, no, 40},
    {IPPROTO_IP, IP_PKTINFO, yes, yes, 4},
    {IPPROTO_IP, IP_PKTOPTIONS, yes, no, 128},
    {IPPROTO_IP, IP_RECVTOS, yes, yes, 4},
    {IPPROTO_IP, IP_RECVTTL, yes, yes, 4},
    {IPPROTO_IP, IP_RECVERR, yes, yes, 4},
    {IPPROTO_IP, IP_RECVORIGDSTADDR, yes, yes, 4},
    {IPPROTO_IP, IP_MTU_DISCOVER, yes, yes, 4},
    {IPPROTO_IP, IP_MTU, yes, no, 4},
    {IPPROTO_IP, IP_FREEBIND, yes, yes, 4},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, yes, yes, 4},
    {IPPROTO_IP, 51 /* IP_LOCAL_PORT_RANGE */, yes, yes, 4},
    {IPPROTO_IP, IP_TRANSPARENT, yes, yes, 4, kCapNetAdmin},
    {IPPROTO_IP, IP_UNICAST_IF, yes, yes, 4},
    {IPPROTO_IP, IP_MULTICAST_IF, yes, yes, 12},
    {IPPROTO_IP, IP_MULTICAST_TTL, yes, yes, 4},
    {IPPROTO_IP, IP_MULTICAST_LOOP, yes, yes, 4},
    {IPPROTO_IP, IP_MULTICAST_ALL, yes, yes, 4},
    {IPPROTO_IP, IP_ADD_MEMBERSHIP, no, yes, 12},
    {IPPROTO_IP, IP_DROP_MEMBERSHIP, no, yes, 12},
    {IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, no, yes, 12},
    {IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, no, yes, 12},
    {IPPROTO_IP, 80 /* SO_ORIGINAL_DST */, yes, no, 16},
    // IPv6
    {IPPROTO_IPV6, IPV6_V6ONLY, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_MINHOPCOUNT, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_UNICAST_IF, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_MULTICAST_HOPS, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_MULTICAST_IF, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_MULTICAST_LOOP, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_MULTICAST_ALL, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_JOIN_GROUP, no, yes, 20},
    {IPPROTO_IPV6, IPV6_LEAVE_GROUP, no, yes, 20},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_2292PKTINFO, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_2292PKTOPTIONS, yes, no, 128},
    {IPPROTO_IPV6, IPV6_2292HOPLIMIT, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_RECVTCLASS, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_RECVERR, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_TCLASS, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_MTU, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_DONTFRAG, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_FREEBIND, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_CHECKSUM, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, yes, yes, 4},
    {IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, yes, yes, 4},
    {IPPROTO_IPV6, 80 /* IP6T_SO_ORIGINAL_DST */, yes, no, 28},
    {IPPROTO_ICMPV6, ICMP6_FILTER, yes, yes, 32},
    {SOL_RAW, 1 /* ICMP_FILTER */, yes, yes, 4},
    {SOL_RAW, IPV6_CHECKSUM, yes, yes, 4},
    // TCP and UDP
    {IPPROTO_TCP, TCP_NODELAY, yes, yes, 4},
    {IPPROTO_TCP, TCP_MAXSEG, yes, yes, 4},
    {IPPROTO_TCP, TCP_CORK, yes, yes, 4},
    {IPPROTO_TCP, TCP_KEEPIDLE, yes, yes, 4},
    {IPPROTO_TCP, TCP_KEEPINTVL, yes, yes, 4},
    {IPPROTO_TCP, TCP_KEEPCNT, yes, yes, 4},
    {IPPROTO_TCP, TCP_SYNCNT, yes, yes, 4},
    {IPPROTO_TCP, TCP_LINGER2, yes, yes, 4},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT, yes, yes, 4},
    {IPPROTO_TCP, TCP_WINDOW_CLAMP, yes, yes, 4},
    {IPPROTO_TCP, TCP_INFO, yes, no, 512},
    {IPPROTO_TCP, TCP_QUICKACK, yes, yes, 4},
    {IPPROTO_TCP, TCP_CONGESTION, yes, yes, 16},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, yes, yes, 4},
    {IPPROTO_TCP, TCP_FASTOPEN, yes, yes, 4},
    {IPPROTO_TCP, TCP_FASTOPEN_CONNECT, yes, yes, 4},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, yes, yes, 4},
    {IPPROTO_TCP, TCP_SAVE_SYN, yes, yes, 4},
    {IPPROTO_TCP, TCP_SAVED_SYN, yes, no, 512},
    {IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, yes, yes, 4},
    {IPPROTO_TCP, TCP_THIN_DUPACK, yes, yes, 4},
    {IPPROTO_TCP, TCP_CC_INFO, yes, no, 64},
    {IPPROTO_TCP, TCP_TIMESTAMP, yes, no, 4},
    {IPPROTO_TCP, TCP_INQ, yes, yes, 4},
    {IPPROTO_UDP, UDP_CORK, yes, yes, 4},
    {IPPROTO_UDP, UDP_SEGMENT, yes, yes, 4},
    {IPPROTO_UDP, UDP_GRO, yes, yes, 4},
    // Netlink, packet
    {SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, no, yes, 4},
    {SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, no, yes, 4},
    {SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, yes, no, 64},
    {SOL_NETLINK, NETLINK_PKTINFO, yes, yes, 4},
    {SOL_NETLINK, NETLINK_BROADCAST_ERROR, yes, yes, 4},
    {SOL_NETLINK, NETLINK_NO_ENOBUFS, yes, yes, 4},
    {SOL_NETLINK, NETLINK_EXT_ACK, yes, yes, 4},
    {SOL_NETLINK, NETLINK_CAP_ACK, yes, yes, 4},
    {SOL_NETLINK, NETLINK_GET_STRICT_CHK, yes, yes, 4},
    {SOL_PACKET, PACKET_ADD_MEMBERSHIP, no, yes, 16},
    {SOL_PACKET, PACKET_DROP_MEMBERSHIP, no, yes, 16},
    {SOL_PACKET, PACKET_AUXDATA, yes, yes, 4},
    {SOL_PACKET, PACKET_STATISTICS, yes, no, 12},
    {SOL_PACKET, PACKET_VERSION, no, yes, 4},  // of the ring, as the next but one: the kernel's own (net/packet_ring.h)
    {SOL_PACKET, PACKET_RESERVE, no, yes, 4},
    {SOL_PACKET, PACKET_RX_RING, no, yes, sizeof(tpacket_req3)},
    {SOL_PACKET, PACKET_IGNORE_OUTGOING, yes, yes, 4},
};

constexpr HostIoctl kIoctls[] = {
    {FIONREAD, sizeof(int), false},
    {TIOCOUTQ, sizeof(int), false},
    {SIOCATMARK, sizeof(int), false},
    {SIOCGIFNAME, sizeof(ifreq), false},
    {SIOCGIFINDEX, sizeof(ifreq), false},
    {SIOCGIFFLAGS, sizeof(ifreq), false},
    {SIOCGIFADDR, sizeof(ifreq), false},
    {SIOCGIFDSTADDR, sizeof(ifreq), false},
    {SIOCGIFBRDADDR, sizeof(ifreq), false},
    {SIOCGIFNETMASK, sizeof(ifreq), false},
    {SIOCGIFMETRIC, sizeof(ifreq), false},
    {SIOCGIFMTU, sizeof(ifreq), false},
    {SIOCGIFHWADDR, sizeof(ifreq), false},
    {SIOCGIFTXQLEN, sizeof(ifreq), false},
    {SIOCSIFFLAGS, sizeof(ifreq), true},
    {SIOCSIFADDR, sizeof(ifreq), true},
    {SIOCSIFNETMASK, sizeof(ifreq), true},
    {SIOCSIFBRDADDR, sizeof(ifreq), true},
    {SIOCSIFMTU, sizeof(ifreq), true},
    {SIOCGIFMAP, sizeof(ifreq), false},
    {SIOCSIFTXQLEN, sizeof(ifreq), true},
    // brctl(8): names of bridges, and ports of one.
    {SIOCBRADDBR, IFNAMSIZ, true},
    {SIOCBRDELBR, IFNAMSIZ, true},
    {SIOCBRADDIF, sizeof(ifreq), true},
    {SIOCBRDELIF, sizeof(ifreq), true},
};

}  // namespace

std::span<const HostOption> host_options() { return kOptions; }
std::span<const HostIoctl> host_ioctls() { return kIoctls; }

const HostOption* find_host_option(int level, int name) {
  for (const HostOption& option : kOptions)
    if (option.level == level && option.name == name) return &option;
  return nullptr;
}

Result<void> check_host_control(std::string_view control) {
  size_t at = 0;
  while (at + sizeof(cmsghdr) <= control.size()) {
    cmsghdr header;
    memcpy(&header, control.data() + at, sizeof header);
    if (header.cmsg_len < sizeof header || header.cmsg_len > control.size() - at) return Errno(EINVAL);
    const bool known =
        (header.cmsg_level == IPPROTO_IP && (header.cmsg_type == IP_PKTINFO || header.cmsg_type == IP_TTL || header.cmsg_type == IP_TOS)) ||
        (header.cmsg_level == IPPROTO_IPV6 && (header.cmsg_type == IPV6_PKTINFO || header.cmsg_type == IPV6_HOPLIMIT ||
                                               header.cmsg_type == IPV6_TCLASS || header.cmsg_type == IPV6_DONTFRAG)) ||
        (header.cmsg_level == IPPROTO_UDP && header.cmsg_type == UDP_SEGMENT);
    if (!known) return Errno(EINVAL);
    at += CMSG_ALIGN(header.cmsg_len);
  }
  return {};
}

bool passes_host_control(int level, int type) {
  if (level == SOL_SOCKET) return type == SO_TIMESTAMP || type == SO_TIMESTAMPNS || type == SO_RXQ_OVFL;
  return level == IPPROTO_IP || level == IPPROTO_IPV6 || level == IPPROTO_UDP || level == IPPROTO_TCP || level == SOL_NETLINK ||
         level == SOL_PACKET;
}

const HostIoctl* find_host_ioctl(unsigned command) {
  for (const HostIoctl& row : kIoctls)
    if (row.command == command) return &row;
  return nullptr;
}

}  // namespace caisson::kernel
