#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <tuple>
#include <vector>

#include "sockets.h"

namespace {
sockaddr_in name_of(int socket) {
  sockaddr_in address{};
  socklen_t length = sizeof address;
  OK(getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length));
  EQ(length, sizeof address);
  return address;
}
int server(sockaddr_in* address, int flags = 0) {
  const int fd = OK(socket(AF_INET, SOCK_STREAM | flags, 0));
  const sockaddr_in any = loopback();
  if (bind(fd, get(any), sizeof any) != 0) skip_test("no loopback interface");
  OK(listen(fd, 10));
  *address = name_of(fd);
  return fd;
}
}  // namespace

TEST(inet, tcp) {
  sockaddr_in address;
  const int listening = server(&address);
  const pid_t child = start_child([&] {
    const int client = OK(socket(AF_INET, SOCK_STREAM, 0));
    OK(connect(client, get(address), sizeof address));
    EQ(write(client, "hello", 5), 5);
    char text[10];
    EQ(read(client, text, 10), 4);
    OK(shutdown(client, SHUT_WR));
    EQ(read(client, text, 10), 0);
  });
  sockaddr_in from{};
  socklen_t length = sizeof from;
  const int connection = OK(accept(listening, reinterpret_cast<sockaddr*>(&from), &length));
  EQ(from.sin_family, AF_INET);
  EQ(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK);
  char text[10];
  EQ(recv(connection, text, 10, 0), 5);
  EQ(send(connection, "back", 4, 0), 4);
  EQ(recv(connection, text, 10, 0), 0);
  close(connection);
  EQ(wait_child(child), 0);
}

TEST(inet, large_transfer) {
  sockaddr_in address;
  const int listening = server(&address);
  const size_t size = 5'000'000;
  const pid_t child = start_child([&] {
    const int client = OK(socket(AF_INET, SOCK_STREAM, 0));
    OK(connect(client, get(address), sizeof address));
    std::vector<unsigned char> data(size);
    for (size_t i = 0; i < size; ++i) data[i] = static_cast<unsigned char>(i * 13 / 7);
    EQ(write(client, data.data(), size), size);
  });
  const int connection = OK(accept(listening, nullptr, nullptr));
  std::vector<unsigned char> data(size);
  EQ(recv(connection, data.data(), size, MSG_WAITALL), size);
  for (size_t i = 0; i < size; ++i) CHECK(data[i] == static_cast<unsigned char>(i * 13 / 7));
  EQ(wait_child(child), 0);
}

TEST(inet, refused_and_nonblocking) {
  sockaddr_in address;
  const int listening = server(&address, SOCK_NONBLOCK);
  FAILS(accept(listening, nullptr, nullptr), EAGAIN);
  const int client = OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  FAILS(connect(client, get(address), sizeof address), EINPROGRESS);
  pollfd entry{client, POLLOUT, 0};
  EQ(poll(&entry, 1, 5000), 1);
  int error = -1;
  socklen_t length = sizeof error;
  OK(getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &length));
  EQ(error, 0);
  char byte;
  FAILS(read(client, &byte, 1), EAGAIN);
  close(listening);
  const int other = OK(socket(AF_INET, SOCK_STREAM, 0));
  FAILS(connect(other, get(address), sizeof address), ECONNREFUSED);
  // The same socket may be tried again.
  FAILS(connect(other, get(address), sizeof address), ECONNREFUSED);
  sockaddr_in again;
  server(&again);
  OK(connect(other, get(again), sizeof again));
  char information[64];
  socklen_t room = sizeof information;
  OK(getsockopt(other, IPPROTO_IP, IP_PKTOPTIONS, information, &room));
  // GLib asks any socket who is at its other end.
  ucred peer{};
  room = sizeof peer;
  OK(getsockopt(other, SOL_SOCKET, SO_PEERCRED, &peer, &room));
  EQ(peer.pid, 0);
  EQ(peer.uid, ~0U);
  EQ(peer.gid, ~0U);
  FAILS(getsockopt(other, SOL_SOCKET, SO_PEERGROUPS, information, &room), ENODATA);
}

TEST(inet, epoll_edges) {
  sockaddr_in address;
  const int listening = server(&address);
  const int client = OK(socket(AF_INET, SOCK_STREAM, 0));
  OK(connect(client, get(address), sizeof address));
  const int connection = OK(accept4(listening, nullptr, nullptr, SOCK_NONBLOCK));
  const int epoll = OK(epoll_create1(0));
  epoll_event event{}, found;
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  OK(epoll_ctl(epoll, EPOLL_CTL_ADD, connection, &event));
  EQ(epoll_wait(epoll, &found, 1, 5000), 1);
  EQ(found.events, EPOLLOUT);
  EQ(epoll_wait(epoll, &found, 1, 50), 0);
  for (int i = 0; i < 3; ++i) {
    EQ(write(client, "x", 1), 1);
    EQ(epoll_wait(epoll, &found, 1, 5000), 1);
    CHECK((found.events & EPOLLIN) != 0);
    char text[10];
    EQ(read(connection, text, 10), 1);
    FAILS(read(connection, text, 10), EAGAIN);
  }
  close(client);
  EQ(epoll_wait(epoll, &found, 1, 5000), 1);
  CHECK((found.events & EPOLLRDHUP) != 0);
}

TEST(inet, waits_in_poll_and_accept) {
  sockaddr_in address;
  const int listening = server(&address);
  const pid_t child = start_child([&] {
    sleep_ms(50);
    const int client = OK(socket(AF_INET, SOCK_STREAM, 0));
    OK(connect(client, get(address), sizeof address));
    sleep_ms(50);
    EQ(write(client, "late", 4), 4);
  });
  const int connection = OK(accept(listening, nullptr, nullptr));
  pollfd entry{connection, POLLIN, 0};
  EQ(poll(&entry, 1, 5000), 1);
  char text[10];
  EQ(read(connection, text, 10), 4);
  EQ(wait_child(child), 0);
}

TEST(inet, udp) {
  const int a = OK(socket(AF_INET, SOCK_DGRAM, 0)), b = OK(socket(AF_INET, SOCK_DGRAM, 0));
  const sockaddr_in any = loopback();
  if (bind(a, get(any), sizeof any) != 0) skip_test("no loopback interface");
  const sockaddr_in address = name_of(a);
  EQ(sendto(b, "ping", 4, 0, get(address), sizeof address), 4);
  char text[10];
  sockaddr_in from{};
  socklen_t length = sizeof from;
  EQ(recvfrom(a, text, 10, 0, reinterpret_cast<sockaddr*>(&from), &length), 4);
  EQ(sendto(a, "pong", 4, 0, get(from), sizeof from), 4);
  EQ(recv(b, text, 2, MSG_TRUNC), 4);
  OK(connect(b, get(address), sizeof address));
  EQ(send(b, "x", 1, 0), 1);
  std::vector<char> huge(100'000);
  FAILS(send(b, huge.data(), huge.size(), 0), EMSGSIZE);
  const timeval time{0, 30'000};
  OK(setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
  FAILS(recv(b, text, 10, 0), EAGAIN);
}

TEST(inet, packet_info) {
  const int a = OK(socket(AF_INET, SOCK_DGRAM, 0)), b = OK(socket(AF_INET, SOCK_DGRAM, 0));
  const sockaddr_in any = loopback();
  if (bind(a, get(any), sizeof any) != 0) skip_test("no loopback interface");
  const int on = 1;
  OK(setsockopt(a, IPPROTO_IP, IP_PKTINFO, &on, sizeof on));
  const sockaddr_in address = name_of(a);
  EQ(sendto(b, "x", 1, 0, get(address), sizeof address), 1);
  char text[10];
  alignas(cmsghdr) char control[100];
  iovec vector{text, 10};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  EQ(recvmsg(a, &message, 0), 1);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  CHECK(header != nullptr && header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_PKTINFO);
}

TEST(inet, options) {
  const int fd = OK(socket(AF_INET, SOCK_STREAM, 0));
  int value = 1;
  socklen_t length = sizeof value;
  OK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, sizeof value));
  OK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
  value = 0;
  OK(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &length));
  EQ(value, 1);
  OK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length));
  EQ(value, SOCK_STREAM);
  OK(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &length));
  EQ(value, IPPROTO_TCP);
  FAILS(getsockopt(fd, SOL_SOCKET, 9999, &value, &length), ENOPROTOOPT);
  FAILS(setsockopt(fd, IPPROTO_TCP, 9999, &value, sizeof value), ENOPROTOOPT);
  FAILS(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, reinterpret_cast<void*>(8), sizeof value), EFAULT);
}

TEST(inet, interfaces) {
  const int fd = OK(socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request{};
  strcpy(request.ifr_name, "lo");
  if (ioctl(fd, SIOCGIFINDEX, &request) != 0) skip_test("no loopback interface");
  CHECK(request.ifr_ifindex > 0);
  OK(ioctl(fd, SIOCGIFFLAGS, &request));
  CHECK((request.ifr_flags & IFF_LOOPBACK) != 0);
  ifreq rows[20];
  ifconf list{};
  list.ifc_len = sizeof rows;
  list.ifc_req = rows;
  OK(ioctl(fd, SIOCGIFCONF, &list));
  CHECK(list.ifc_len >= 0 && list.ifc_len % sizeof(ifreq) == 0);
}

TEST(inet, netlink_lists_links) {
  const int fd = OK(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  OK(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address));
  struct {
    nlmsghdr header;
    rtgenmsg body;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_GETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.header.nlmsg_seq = 7;
  EQ(send(fd, &request, sizeof request, 0), sizeof request);
  char answer[65536];
  const ssize_t got = OK(recv(fd, answer, sizeof answer, 0));
  nlmsghdr first;
  CHECK(got >= static_cast<ssize_t>(sizeof first));
  memcpy(&first, answer, sizeof first);
  EQ(first.nlmsg_type, RTM_NEWLINK);
  EQ(first.nlmsg_seq, 7);
}

TEST(inet, ipv6) {
  const int fd = socket(AF_INET6, SOCK_STREAM, 0);
  if (fd < 0) skip_test("no IPv6");
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) skip_test("no IPv6 loopback address");
  OK(listen(fd, 1));
  socklen_t length = sizeof address;
  OK(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length));
  const int client = OK(socket(AF_INET6, SOCK_STREAM, 0));
  OK(connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address));
  OK(accept(fd, nullptr, nullptr));
}

TEST(inet, interrupted) {
  sockaddr_in address;
  const int listening = server(&address);
  struct sigaction action {};
  action.sa_handler = [](int) {};
  sigaction(SIGALRM, &action, nullptr);
  const itimerval timer{{0, 50'000}, {0, 50'000}};  // again and again: the first may hit before accept began
  OK(setitimer(ITIMER_REAL, &timer, nullptr));
  FAILS(accept(listening, nullptr, nullptr), EINTR);
}

// Requests that name a network namespace which is not there.
TEST(inet, netlink_names_nobody) {
  constexpr uint16_t kPid = 2, kFd = 3;  // NETNSA_PID, NETNSA_FD
  const int fd = OK(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
  for (const auto& [type, value, error] : {std::tuple<uint16_t, uint32_t, int>(kPid, 0x7ffffffe, ESRCH), {kFd, 0x7ffffffe, EBADF}}) {
    struct {
      nlmsghdr header;
      rtgenmsg body;
      nlattr attribute __attribute__((aligned(4)));
      uint32_t value;
    } request{};
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = RTM_GETNSID;
    request.header.nlmsg_flags = NLM_F_REQUEST;
    request.attribute = {sizeof(nlattr) + sizeof(uint32_t), type};
    request.value = value;
    EQ(send(fd, &request, sizeof request, 0), sizeof request);
    EQ(error_answer(fd), -error);
  }
}

// Who has no right to change the network hears so in an answer, not from the call.
TEST(inet, netlink_refuses_by_an_answer) {
  const int fd = OK(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
  // A container's root that cannot become somebody else has no right to the network either.
  if (setresuid(1000, 1000, 1000) != 0) EQ(errno, EPERM);
  struct {
    nlmsghdr header;
    ifinfomsg link;
    char rest[64];
  } request{};
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.link);
  request.header.nlmsg_type = RTM_NEWLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  for (const size_t size : {size_t{request.header.nlmsg_len}, sizeof request}) {  // with a rest that is no message, too
    EQ(send(fd, &request, size, 0), size);
    EQ(error_answer(fd), -EPERM);
  }
}
