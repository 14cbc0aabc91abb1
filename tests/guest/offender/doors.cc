// Attempts by sockets, and by the calls that have many meanings.
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "attempts.h"

namespace {

// Somebody who has connected, if anybody has.
struct UniqueConnection {
  explicit UniqueConnection(int listener) : fd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)) {}
  ~UniqueConnection() {
    if (fd >= 0) close(fd);
  }
  explicit operator bool() const { return fd >= 0; }
  int fd;
};

}  // namespace

void sockets(World& world) {
  const auto open = [&](const char* name, int family, int type, int protocol) {
    const long fd = world.puppet.call(SYS_socket, static_cast<uint64_t>(family), static_cast<uint64_t>(type) | SOCK_CLOEXEC,
                                      static_cast<uint64_t>(protocol));
    world.note(name, fd);
    if (fd >= 0) world.puppet.call(SYS_close, static_cast<uint64_t>(fd));
  };
  for (const int family : {AF_INET, AF_INET6}) {
    for (const int protocol : {IPPROTO_RAW, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP}) open("raw", family, SOCK_RAW, protocol);
    open("SCTP", family, SOCK_STREAM, IPPROTO_SCTP);
    open("MPTCP", family, SOCK_STREAM, 262);
  }
  for (const int type : {SOCK_RAW, SOCK_DGRAM}) open("packet", AF_PACKET, type, 0x0300);
  for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) open("Unix", AF_UNIX, type, 0);
  for (const int protocol :
       {NETLINK_NETFILTER, NETLINK_GENERIC, NETLINK_KOBJECT_UEVENT, NETLINK_AUDIT, NETLINK_CONNECTOR, NETLINK_XFRM, NETLINK_SELINUX})
    open("netlink", AF_NETLINK, SOCK_RAW, protocol);
  open("vsock", AF_VSOCK, SOCK_STREAM, 0);
  open("alg", AF_ALG, SOCK_SEQPACKET, 0);
  open("XDP", 44, SOCK_RAW, 0);
  open("key", AF_KEY, SOCK_RAW, 2);
}

// A service of the node listens at an abstract name: with hostNetwork that name is in the container's network.
void services(World& world) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  const int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "taken-kernel-%d", getpid()) + 3;
  const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (bind(listener, reinterpret_cast<sockaddr*>(&name), static_cast<socklen_t>(length)) != 0 || listen(listener, 64) != 0) return;
  Puppet& puppet = world.puppet;
  const auto connect = [&](const char* what, long fd) {
    const uint64_t where = puppet.put({reinterpret_cast<const char*>(&name), sizeof name});
    world.note(what, puppet.call(SYS_connect, static_cast<uint64_t>(fd), where, static_cast<uint64_t>(length)));
    const long sent =
        puppet.call(SYS_sendto, static_cast<uint64_t>(fd), where, 1, MSG_DONTWAIT | MSG_NOSIGNAL, where, static_cast<uint64_t>(length));
    // A pair's other end gets it, whatever the address.
    const UniqueConnection reached(listener);
    world.note(what, sent > 0 && !reached ? kStayed : sent);
  };
  if (world.control) connect("a fresh one", puppet.call(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const uint64_t pair = puppet.put("12345678");
  if (puppet.call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0) {
    int ends[2];
    memcpy(ends, puppet.get(pair, sizeof ends).data(), sizeof ends);
    connect("one of a pair", ends[0]);
    puppet.call(SYS_close, static_cast<uint64_t>(ends[1]));
    connect("one whose peer has gone", ends[0]);
    puppet.call(SYS_shutdown, static_cast<uint64_t>(ends[0]), SHUT_RDWR);
    connect("one that has been shut down", ends[0]);
    world.note("listen", puppet.call(SYS_listen, static_cast<uint64_t>(ends[0]), 5));
    puppet.call(SYS_close, static_cast<uint64_t>(ends[0]));
  }
  close(listener);
}

// Doors to namespaces, programs and signals that ioctl, fcntl and setsockopt have.
void side_doors(World& world) {
  Puppet& puppet = world.puppet;
  const long socket = puppet.call(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const uint64_t on = puppet.put("\x01\0\0\0\0\0\0"), fd = static_cast<uint64_t>(socket);
  world.note("SIOCGSKNS", puppet.call(SYS_ioctl, fd, SIOCGSKNS));
  const long space =
      world.proc < 0 ? -1 : puppet.call(SYS_openat, static_cast<uint64_t>(world.proc), puppet.put("self/ns/user"), O_RDONLY | O_CLOEXEC);
  if (space >= 0) {
    for (const unsigned long request : {NS_GET_USERNS, NS_GET_PARENT, NS_GET_OWNER_UID})
      world.note("NS_GET " + std::to_string(request), puppet.call(SYS_ioctl, static_cast<uint64_t>(space), request, on));
    puppet.call(SYS_close, static_cast<uint64_t>(space));
  }
  world.note("TIOCSTI", puppet.call(SYS_ioctl, 0, TIOCSTI, on));
  world.note("FIOASYNC", puppet.call(SYS_ioctl, fd, FIOASYNC, on));
  for (const int option : {SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_LOCK_FILTER, SO_MARK})
    world.note("option " + std::to_string(option), puppet.call(SYS_setsockopt, fd, SOL_SOCKET, static_cast<uint64_t>(option), on, 4));
  world.note("IPT_SO_SET_REPLACE", puppet.call(SYS_setsockopt, fd, 0, 64, on, 4));
  world.note("F_SETSIG", puppet.call(SYS_fcntl, fd, F_SETSIG, SIGIO));
  world.note("F_NOTIFY", puppet.call(SYS_fcntl, fd, F_NOTIFY, 1));
  world.note("F_SETLEASE", puppet.call(SYS_fcntl, fd, F_SETLEASE, F_UNLCK));
  world.note("fanotify_init", puppet.call(SYS_fanotify_init, 0, 0));
  world.note("io_setup", puppet.call(SYS_io_setup, 1, puppet.put(std::string(8, '\0'))));
  world.note("splice", puppet.call(SYS_splice, 0, 0, 0, 0, 0, 0));
  world.note("memfd_secret", puppet.call(SYS_memfd_secret, 0));
  world.note("landlock", puppet.call(SYS_landlock_create_ruleset, 0, 0, 1));
  puppet.call(SYS_close, fd);
}
