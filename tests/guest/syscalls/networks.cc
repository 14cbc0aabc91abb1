// Network namespaces: network_namespaces(7). With CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW.
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstddef>

#include "sockets.h"

namespace {

void leave_network(int more = 0) {
  if (unshare(CLONE_NEWNET | more) == 0) return;
  if (errno == EPERM || errno == EINVAL || errno == ENOSPC) skip_test("this place makes no network namespaces");
  OK(-1);
}

short flags_of_loopback(int fd) {
  ifreq request{};
  strcpy(request.ifr_name, "lo");
  OK(ioctl(fd, SIOCGIFFLAGS, &request));
  return request.ifr_flags;
}

short flags_of_loopback() {
  const int fd = OK(socket(AF_INET, SOCK_DGRAM, 0));
  const short flags = flags_of_loopback(fd);
  close(fd);
  return flags;
}

int set_loopback_up() {
  const int fd = OK(socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request{};
  strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  const int done = ioctl(fd, SIOCSIFFLAGS, &request);
  const int error = errno;
  close(fd);
  errno = error;
  return done;
}

// A listening socket at the loopback address; its port.
int listen_at(uint16_t& port) {
  const int fd = OK(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address = loopback(port);
  OK(bind(fd, get(address), sizeof address));
  OK(listen(fd, 4));
  socklen_t length = sizeof address;
  OK(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length));
  port = ntohs(address.sin_port);
  return fd;
}

// The errno; 0: it worked.
int try_connect(uint16_t port) {
  const int fd = OK(socket(AF_INET, SOCK_STREAM, 0));
  const sockaddr_in address = loopback(port);
  const int error = connect(fd, get(address), sizeof address) == 0 ? 0 : errno;
  close(fd);
  return error;
}

std::string text_of(const char* path) {
  const int fd = open(path, O_RDONLY);
  if (fd < 0 && errno == ENOENT) skip_test("there is no /proc");
  OK(fd);
  std::string text;
  char bytes[4096];
  for (ssize_t got; (got = OK(read(fd, bytes, sizeof bytes))) > 0;) text.append(bytes, static_cast<size_t>(got));
  close(fd);
  return text;
}

std::string name_of_network(pid_t pid) {
  char link[64] = {};
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/net";
  if (readlink(path.c_str(), link, sizeof link - 1) < 0) skip_test("there is no /proc");
  return link;
}

void write_text(const char* path, const std::string& text) {
  const int fd = OK(open(path, O_WRONLY));
  EQ(write(fd, text.data(), text.size()), text.size());
  close(fd);
}

sockaddr_un abstract(const char* name, socklen_t& length) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path + 1, name);
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + strlen(name));
  return address;
}

// Something that another process is told and waits for.
struct Signal {
  int ends[2];
  Signal() { OK(pipe(ends)); }
  void give() { EQ(write(ends[1], "", 1), 1); }
  void take() {
    char byte;
    EQ(read(ends[0], &byte, 1), 1);
  }
};

}  // namespace

TEST(networks, begin_with_a_loopback_that_is_down) {
  const std::string before = name_of_network(getpid());
  EQ(in_child([&] {
       leave_network();
       CHECK(name_of_network(getpid()) != before);
       EQ(flags_of_loopback() & IFF_UP, 0);
       EQ(try_connect(1), ENETUNREACH);
       CHECK(text_of("/proc/net/dev").find("lo:") != std::string::npos);
       CHECK(text_of("/proc/self/net/dev").find("eth0:") == std::string::npos);
     }),
     0);
  CHECK(name_of_network(getpid()) == before);
}

TEST(networks, a_connection_inside_is_nobody_elses) {
  uint16_t outside = 0;
  listen_at(outside);
  Signal listening, tried;
  uint16_t inside = 0;
  int port[2];
  OK(pipe(port));
  const pid_t child = start_child([&] {
    leave_network();
    OK(set_loopback_up());
    EQ(flags_of_loopback() & IFF_UP, IFF_UP);
    EQ(try_connect(outside), ECONNREFUSED);
    const int server = listen_at(inside);
    EQ(write(port[1], &inside, sizeof inside), sizeof inside);
    const int client = OK(socket(AF_INET, SOCK_STREAM, 0));
    const sockaddr_in address = loopback(inside);
    OK(connect(client, get(address), sizeof address));
    const int accepted = OK(accept(server, nullptr, nullptr));
    EQ(send(client, "through", 7, 0), 7);
    char bytes[8] = {};
    EQ(recv(accepted, bytes, sizeof bytes, 0), 7);
    CHECK(strcmp(bytes, "through") == 0);
    char row[32];
    snprintf(row, sizeof row, "0100007F:%04X", inside);
    CHECK(text_of("/proc/net/tcp").find(row) != std::string::npos);
    snprintf(row, sizeof row, "0100007F:%04X", outside);
    CHECK(text_of("/proc/net/tcp").find(row) == std::string::npos);
    tried.take();
    const int another = OK(socket(AF_INET, SOCK_DGRAM, 0));
    const sockaddr_in any = loopback(0);
    OK(bind(another, get(any), sizeof any));
  });
  if (read(port[0], &inside, sizeof inside) == sizeof inside) {
    EQ(try_connect(inside), ECONNREFUSED);
    CHECK(text_of(("/proc/" + std::to_string(child) + "/net/tcp").c_str()) != text_of("/proc/self/net/tcp"));
    tried.give();
  }
  EQ(wait_child(child), 0);
}

TEST(networks, are_configured_by_netlink) {
  EQ(in_child([] {
       leave_network();
       const int fd = OK(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
       struct {
         nlmsghdr header;
         ifinfomsg link;
       } request{};
       request.header = {sizeof request, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0};
       request.link.ifi_index = 1;
       request.link.ifi_flags = request.link.ifi_change = IFF_UP;
       EQ(send(fd, &request, sizeof request, 0), sizeof request);
       EQ(error_answer(fd), 0);
       EQ(flags_of_loopback() & IFF_UP, IFF_UP);
     }),
     0);
}

TEST(networks, are_entered_and_sockets_stay_where_they_were_made) {
  EQ(in_child([] {
       const int before = OK(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
       const int old = OK(socket(AF_INET, SOCK_DGRAM, 0));
       EQ(flags_of_loopback(old) & IFF_UP, IFF_UP);
       leave_network();
       EQ(flags_of_loopback(old) & IFF_UP, IFF_UP);
       EQ(flags_of_loopback() & IFF_UP, 0);
       const int own = OK(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
       FAILS(setns(own, CLONE_NEWUTS), EINVAL);
       OK(setns(before, CLONE_NEWNET));
       EQ(flags_of_loopback() & IFF_UP, IFF_UP);
       OK(setns(own, 0));
       OK(set_loopback_up());
       OK(setns(before, 0));
       close(own);
       uint16_t port = 0;
       const int server = listen_at(port);
       EQ(try_connect(port), 0);
       close(server);
     }),
     0);
}

// Of clone, which children inherit, and which ends with the last socket only.
TEST(networks, live_as_long_as_a_socket) {
  int pair[2];
  OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  const pid_t child = start_child([&] {
    leave_network();
    EQ(in_child([&] {
         OK(set_loopback_up());
         uint16_t port = 0;
         const int server = listen_at(port);
         send_fds(pair[1], {server}, "x");
       }),
       0);
  });
  wait_child(child);
  char byte;
  if (recv(pair[0], &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 1) skip_test("this place makes no network namespaces");
  const Received received = receive(pair[0]);
  EQ(received.fds.size(), 1U);
  const int server = received.fds[0];
  EQ(flags_of_loopback(server) & IFF_UP, IFF_UP);
  sockaddr_in address{};
  socklen_t length = sizeof address;
  OK(getsockname(server, reinterpret_cast<sockaddr*>(&address), &length));
  EQ(try_connect(ntohs(address.sin_port)), ECONNREFUSED);
}

TEST(networks, have_abstract_names_of_their_own) {
  socklen_t length;
  const sockaddr_un name = abstract("caisson-networks", length);
  const int outside = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  OK(bind(outside, get(name), length));
  OK(listen(outside, 1));
  sockaddr_un path{};
  path.sun_family = AF_UNIX;
  strcpy(path.sun_path, "everybodys");
  const int by_path = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  OK(bind(by_path, get(path), sizeof path));
  OK(listen(by_path, 1));
  EQ(in_child([&] {
       const int old = OK(socket(AF_UNIX, SOCK_STREAM, 0));
       leave_network();
       const int inside = OK(socket(AF_UNIX, SOCK_STREAM, 0));
       FAILS(connect(inside, get(name), length), ECONNREFUSED);
       OK(connect(inside, get(path), sizeof path));
       // The socket's network counts, not the task's.
       OK(connect(old, get(name), length));
       const int another = OK(socket(AF_UNIX, SOCK_STREAM, 0));
       OK(bind(another, get(name), length));
     }),
     0);
}

TEST(networks, belong_to_a_user_namespace) {
  chmod(".", 0777);
  EQ(in_child([] {
       OK(prctl(PR_SET_DUMPABLE, 1));
       OK(setgid(1000));
       OK(setuid(1000));
       OK(prctl(PR_SET_DUMPABLE, 1));
       const int before = OK(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
       FAILS(unshare(CLONE_NEWNET), EPERM);
       FAILS(setns(before, CLONE_NEWNET), EPERM);
       if (unshare(CLONE_NEWUSER) != 0) skip_test("this place does not let a user make namespaces");
       write_text("/proc/self/setgroups", "deny");
       write_text("/proc/self/uid_map", "0 1000 1");
       write_text("/proc/self/gid_map", "0 1000 1");
       // What it has in its own user namespace says nothing about the network outside.
       FAILS(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM);
       FAILS(set_loopback_up(), EPERM);
       leave_network();
       close(OK(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)));
       close(OK(socket(AF_PACKET, SOCK_DGRAM, 0)));
       OK(set_loopback_up());
       uint16_t port = 80;
       close(listen_at(port));
       FAILS(setns(before, CLONE_NEWNET), EPERM);
     }),
     0);
}

TEST(networks, have_settings_of_their_own) {
  constexpr const char* kLowPorts = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
  EQ(in_child([] {
       const std::string before = text_of(kLowPorts);
       leave_network();
       CHECK(text_of(kLowPorts) == "1024\n");
       DIR* folder = opendir("/proc/sys/net/ipv4/conf");
       CHECK(folder != nullptr);
       int count = 0;
       bool loopback = false;
       while (const dirent* entry = readdir(folder)) {
         ++count;
         loopback = loopback || strcmp(entry->d_name, "lo") == 0;
         CHECK(strcmp(entry->d_name, "eth0") != 0);
       }
       CHECK(loopback && count >= 5);
       closedir(folder);
       (void)text_of("/proc/sys/net/ipv4/conf/lo/forwarding");
       FAILS(open("/proc/sys/net/ipv4/conf/nobody/forwarding", O_RDONLY), ENOENT);
       FAILS(open("/proc/net/nothing", O_RDONLY), ENOENT);
     }),
     0);
}

// One after another, and several at once.
TEST(networks, many) {
  for (int i = 0; i < 20; ++i)
    EQ(in_child([] {
         leave_network();
         EQ(flags_of_loopback() & IFF_UP, 0);
       }),
       0);
  EQ(in_child([] {
       int held[12];
       for (int& fd : held) {
         leave_network();
         OK(set_loopback_up());
         fd = OK(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
       }
       uint16_t port = 0;
       const int server = listen_at(port);
       for (const int fd : held) {
         OK(setns(fd, CLONE_NEWNET));
         EQ(try_connect(port), fd == held[11] ? 0 : ECONNREFUSED);
       }
       close(server);
     }),
     0);
}
