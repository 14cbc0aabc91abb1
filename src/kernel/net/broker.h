// The network broker: a tiny process in the pod's network namespace that does for the kernel process what takes capabilities in the user
// namespace that owns the network namespace, which is the node's: it opens raw and packet sockets (CAP_NET_RAW; everything after socket(2)
// works without, but for a second SO_BINDTODEVICE of one socket), binds sockets to low ports (CAP_NET_BIND_SERVICE), and, for a guest that
// may configure the network (CAP_NET_ADMIN), sends netlink requests, and makes a few ioctls and socket options. So the kernel process,
// which may be taken, need have no capability there. What a netlink request may say is checked here (netlink_requests.h): a kernel process
// that has been taken cannot name the network namespaces of others.
//
// It is a fork of the kernel process before any guest runs, with an empty root directory, one descriptor, those of the three capabilities
// that it is made for and the calls of broker_calls() (platform/host_rows.h). It ends with the kernel process.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <span>

#include "base/unique_fd.h"
#include "kernel/errno.h"

namespace caisson::kernel {

struct BrokeredSocket {
  int family, type;
  int most_protocol;
  const char* words;
};
struct BrokeredOption {
  int level, name;
};
// What the broker opens: the rows of its filter are made from these, too.
std::span<const BrokeredSocket> brokered_sockets();
// The socket options that it sets: numbers of four bytes.
std::span<const BrokeredOption> brokered_options();

// Forks a broker and keeps the channel to it. root: the empty folder that becomes its root directory; -1: it keeps this process's (for
// kernel_run). capabilities: those of broker_capabilities() that it is to have; it keeps what this process has of them. Before the first
// thread.
Result<void> start_network_broker(int root, uint64_t capabilities);
// For a child of the kernel process that has been forked already: becomes the broker at the other end of `channel`. kernel 0: it is
// nobody's child, and ends with the channel. Ends if it cannot be confined.
[[noreturn]] void become_network_broker(UniqueFd channel, int root, pid_t kernel, uint64_t capabilities);
// The channel to it, in the kernel process, and what it has; in the place of the one before, which ends. Any thread.
void set_network_broker(UniqueFd channel, uint64_t capabilities);

// The broker may configure the network.
bool broker_administers();

// A non-blocking socket of the pod's network, opened by the broker. EPERM: there is none, or it has gone.
Result<UniqueFd> open_brokered_socket(int family, int type, int protocol);
// bind(2) of an IPv4 or IPv6 socket by the broker. EACCES: there is none, or it may not either.
Result<void> bind_by_broker(int fd, const sockaddr* address, socklen_t length);

// For a guest that may configure the network. EPERM: there is no broker that may.
//
// Whether those requests of a netlink socket's take CAP_NET_ADMIN.
bool needs_administrator(int protocol, std::span<const char> requests);
// Sends them to the host's kernel on a netlink socket; answers come to that. How many bytes were sent. EMSGSIZE:
// more than kMostRequests.
inline constexpr size_t kMostRequests = 65'536;
Result<size_t> send_requests_by_broker(int fd, std::span<const char> requests);
// One of host_ioctls() that changes an interface, with its struct ifreq.
Result<void> ioctl_by_broker(int fd, unsigned command, std::span<const char> argument);
// One of brokered_options().
Result<void> set_option_by_broker(int fd, int level, int name, int value);

}  // namespace caisson::kernel
