// Raw and packet sockets, on the loopback interface; with CAP_NET_RAW.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>

#include "sockets.h"

namespace {

int raw(int family, int type, int protocol) {
  const int fd = socket(family, type | SOCK_CLOEXEC, protocol);
  if (fd < 0 && errno == EPERM) skip_test("no CAP_NET_RAW");
  return OK(fd);
}

icmphdr echo_request(uint16_t id) {
  icmphdr echo{};
  echo.type = ICMP_ECHO;
  echo.un.echo.id = htons(id);
  uint16_t words[sizeof echo / 2];
  memcpy(words, &echo, sizeof echo);
  uint32_t sum = 0;
  for (const uint16_t word : words) sum += word;
  echo.checksum = static_cast<uint16_t>(~((sum & 0xffff) + (sum >> 16)));
  return echo;
}

// Until the answer to that request comes; others' packets come, too.
void await_echo(int fd, uint16_t id) {
  const int64_t end = now_ms() + 5000;
  for (;;) {
    pollfd entry{fd, POLLIN, 0};
    const int64_t left = end - now_ms();
    CHECK(left > 0 && OK(poll(&entry, 1, static_cast<int>(left))) == 1);
    char packet[512];
    const ssize_t size = OK(recv(fd, packet, sizeof packet, 0));
    iphdr ip;
    icmphdr echo;
    CHECK(size >= static_cast<ssize_t>(sizeof ip));
    memcpy(&ip, packet, sizeof ip);
    if (size < static_cast<ssize_t>(ip.ihl * 4 + sizeof echo)) continue;
    memcpy(&echo, packet + ip.ihl * 4, sizeof echo);
    if (echo.type == ICMP_ECHOREPLY && ntohs(echo.un.echo.id) == id) return;
  }
}

}  // namespace

TEST(raw, echo) {
  const int fd = raw(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  const uint16_t id = static_cast<uint16_t>(getpid() ^ 0x5a5a);
  const icmphdr echo = echo_request(id);
  const sockaddr_in to = loopback();
  EQ(sendto(fd, &echo, sizeof echo, 0, get(to), sizeof to), sizeof echo);
  await_echo(fd, id);
  int value = 0;
  socklen_t length = sizeof value;
  OK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length));
  EQ(value, SOCK_RAW);
  OK(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &length));
  EQ(value, IPPROTO_ICMP);
  EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

TEST(raw, bound_connected_and_for_one_device) {
  const int fd = raw(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  const sockaddr_in address = loopback();
  OK(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
  OK(bind(fd, get(address), sizeof address));
  OK(connect(fd, get(address), sizeof address));
  const int ttl = 3;
  OK(setsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl));
  const icmphdr echo = echo_request(77);
  EQ(send(fd, &echo, sizeof echo, 0), sizeof echo);
  await_echo(fd, 77);
}

TEST(raw, own_header) {
  const int listening = raw(AF_INET, SOCK_RAW, IPPROTO_ICMP), sending = raw(AF_INET, SOCK_RAW, IPPROTO_RAW);
  struct {
    iphdr ip;
    icmphdr echo;
  } packet{};
  packet.ip.version = 4;
  packet.ip.ihl = 5;
  packet.ip.ttl = 9;
  packet.ip.protocol = IPPROTO_ICMP;
  packet.ip.saddr = packet.ip.daddr = htonl(INADDR_LOOPBACK);
  packet.echo = echo_request(1234);
  const sockaddr_in to = loopback();
  EQ(sendto(sending, &packet, sizeof packet, 0, get(to), sizeof to), sizeof packet);
  await_echo(listening, 1234);
}

TEST(raw, ipv6) {
  const int probe = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_addr = in6addr_loopback;
  if (probe < 0 || bind(probe, get(to), sizeof to) != 0) skip_test("no IPv6 loopback address");
  const int fd = raw(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
  icmp6_filter filter;
  ICMP6_FILTER_SETBLOCKALL(&filter);
  ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &filter);
  OK(setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter));
  icmp6_hdr echo{};
  echo.icmp6_type = ICMP6_ECHO_REQUEST;
  EQ(sendto(fd, &echo, sizeof echo, 0, get(to), sizeof to), sizeof echo);
  icmp6_hdr reply{};
  EQ(recv(fd, &reply, sizeof reply, 0), sizeof reply);
  EQ(reply.icmp6_type, ICMP6_ECHO_REPLY);
}

TEST(raw, packets) {
  const int fd = raw(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP));
  sockaddr_ll where{};
  where.sll_family = AF_PACKET;
  where.sll_protocol = htons(ETH_P_IP);
  where.sll_ifindex = static_cast<int>(if_nametoindex("lo"));
  CHECK(where.sll_ifindex > 0);
  OK(bind(fd, get(where), sizeof where));
  packet_mreq all{};
  all.mr_ifindex = where.sll_ifindex;
  all.mr_type = PACKET_MR_PROMISC;
  OK(setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all));
  const int udp = OK(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr_in to = loopback(9);
  const std::string wanted = "seen by a packet socket " + std::to_string(getpid());
  EQ(sendto(udp, wanted.data(), wanted.size(), 0, get(to), sizeof to), wanted.size());
  for (;;) {
    char packet[2048];
    sockaddr_ll from{};
    socklen_t length = sizeof from;
    const ssize_t size = OK(recvfrom(fd, packet, sizeof packet, 0, reinterpret_cast<sockaddr*>(&from), &length));
    EQ(from.sll_ifindex, where.sll_ifindex);
    if (std::string(packet, static_cast<size_t>(size)).find(wanted) != std::string::npos) break;
  }
}

namespace {
// IPv4 packets that come in there; the device's number.
int listen_on_loopback(int fd) {
  sockaddr_ll where{};
  where.sll_family = AF_PACKET;
  where.sll_protocol = htons(ETH_P_IP);
  where.sll_ifindex = static_cast<int>(OK(if_nametoindex("lo")));
  OK(bind(fd, reinterpret_cast<sockaddr*>(&where), sizeof where));
  return where.sll_ifindex;
}
}  // namespace

// What libpcap does: the host fills a ring that the program has mapped.
TEST(raw, ring) {
  for (int i = 0; i < 40; ++i) {  // more than may be held at a time, were they not given back
    const int fd = raw(AF_PACKET, SOCK_RAW, 0);
    int length = TPACKET_V2;
    socklen_t size = sizeof length;
    OK(getsockopt(fd, SOL_PACKET, PACKET_HDRLEN, &length, &size));
    EQ(length, sizeof(tpacket2_hdr));
    length = 77;
    FAILS(getsockopt(fd, SOL_PACKET, PACKET_HDRLEN, &length, &size), EINVAL);
    const int version = TPACKET_V2;
    OK(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version));
    constexpr unsigned kBlock = 65536, kBlocks = 64, kFrame = 2048;
    const tpacket_req request{kBlock, kBlocks, kFrame, kBlock / kFrame * kBlocks};
    CHECK(mmap(nullptr, kBlock * kBlocks, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EINVAL);
    OK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request));
    auto* ring = static_cast<char*>(mmap(nullptr, kBlock * kBlocks, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    CHECK(static_cast<void*>(ring) != MAP_FAILED);
    listen_on_loopback(fd);
    const int sender = OK(socket(AF_INET, SOCK_DGRAM, 0));
    const sockaddr_in to = loopback(4001);
    OK(sendto(sender, "caught", 6, 0, get(to), sizeof to));
    pollfd entry{fd, POLLIN, 0};
    EQ(poll(&entry, 1, 5000), 1);
    auto* head = reinterpret_cast<tpacket2_hdr*>(ring);
    CHECK((__atomic_load_n(&head->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) != 0);
    CHECK(std::string(ring + head->tp_mac, head->tp_snaplen).find("caught") != std::string::npos);
    head->tp_status = TP_STATUS_KERNEL;
    FAILS(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &version, sizeof version), ENOENT);
    OK(close(sender));
    OK(close(fd));  // what is mapped stays
    OK(munmap(ring, kBlock * kBlocks));
  }
}

TEST(raw, ring_goes_round) {
  const int fd = raw(AF_PACKET, SOCK_DGRAM, 0);
  const int version = TPACKET_V2;
  OK(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version));
  for (const tpacket_req& wrong : {tpacket_req{4096, 1, 2048, 3}, tpacket_req{4096, 1, 2040, 2}, tpacket_req{100, 1, 100, 1},
                                   tpacket_req{4096, 1, 16, 256}, tpacket_req{0, 1, 2048, 2}, tpacket_req{4096, 0, 2048, 2}})
    FAILS(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &wrong, sizeof wrong), EINVAL);
  const tpacket_req request{4096, 1, 2048, 2};
  OK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request));
  FAILS(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version), EBUSY);
  FAILS(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request), EBUSY);
  CHECK(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EINVAL);
  auto* ring = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  CHECK(static_cast<void*>(ring) != MAP_FAILED);
  const int loopback_device = listen_on_loopback(fd);
  const int sender = OK(socket(AF_INET, SOCK_DGRAM, 0));
  // Somebody is there, so that no ICMP comes back.
  const int receiver = OK(socket(AF_INET, SOCK_DGRAM, 0));
  sockaddr_in to = loopback(0);
  socklen_t length = sizeof to;
  OK(bind(receiver, get(to), sizeof to));
  OK(getsockname(receiver, reinterpret_cast<sockaddr*>(&to), &length));
  int next = 0;
  for (int round = 0; round < 5; ++round) {
    const std::string text = "round " + std::to_string(round);
    OK(sendto(sender, text.data(), text.size(), 0, get(to), sizeof to));
    for (bool ours = false; !ours; next = 1 - next) {  // others may send there, too
      pollfd entry{fd, POLLIN, 0};
      EQ(poll(&entry, 1, 5000), 1);
      char* frame = ring + next * 2048;
      auto* head = reinterpret_cast<tpacket2_hdr*>(frame);
      CHECK((__atomic_load_n(&head->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) != 0);
      EQ(head->tp_mac, head->tp_net);
      EQ(head->tp_snaplen, std::min<size_t>(head->tp_len, 2048 - head->tp_mac));
      CHECK(head->tp_sec > 1'700'000'000);
      ours = head->tp_len == 28 + text.size() && std::string(frame + head->tp_net + 28, text.size()) == text;
      const auto* from = reinterpret_cast<const sockaddr_ll*>(frame + TPACKET_ALIGN(sizeof *head));
      EQ(from->sll_ifindex, loopback_device);
      EQ(from->sll_pkttype, PACKET_HOST);
      __atomic_store_n(&head->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    }
  }
  OK(munmap(ring, 4096));
  const tpacket_req none{};
  OK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &none, sizeof none));
}

TEST(raw, what_there_is_not) {
  raw(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  FAILS(socket(AF_INET, SOCK_RAW, 0), EPROTONOSUPPORT);
  FAILS(socket(AF_INET, SOCK_RAW, -1), EINVAL);
  FAILS(socket(AF_INET6, SOCK_RAW, 100'000), EINVAL);
  FAILS(socket(AF_PACKET, SOCK_STREAM, 0), ESOCKTNOSUPPORT);
}

// The capability is asked when a socket is made, of whoever makes it.
TEST(raw, without_the_capability) {
  const int fd = raw(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  EQ(in_child([fd] {
       __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
       __user_cap_data_struct none[2] = {};
       OK(syscall(SYS_capset, &header, none));
       FAILS(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM);
       FAILS(socket(AF_PACKET, SOCK_RAW, 0), EPERM);
       const icmphdr echo = echo_request(4321);
       const sockaddr_in to = loopback();
       EQ(sendto(fd, &echo, sizeof echo, 0, get(to), sizeof to), sizeof echo);
       await_echo(fd, 4321);
     }),
     0);
}

TEST(raw, many_at_once) {
  raw(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  pid_t children[4];
  for (pid_t& child : children)
    child = start_child([] {
      for (int i = 0; i < 50; ++i) OK(close(OK(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP))));
    });
  for (const pid_t child : children) EQ(wait_child(child), 0);
}
