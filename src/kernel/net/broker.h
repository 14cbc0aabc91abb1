// The network broker: a tiny process in the pod's network namespace that opens raw and packet sockets for the kernel process, binds sockets
// to low ports, and does nothing else. That takes CAP_NET_RAW and CAP_NET_BIND_SERVICE in the user namespace that owns the network
// namespace, which is the node's; so the kernel process, which may be taken, need have no capability there. Everything after socket(2)
// works without CAP_NET_RAW, but for a second SO_BINDTODEVICE of one socket and SO_PRIORITY above 6.
//
// It is a fork of the kernel process before any guest runs, with an empty root directory, one descriptor, those of the two capabilities
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
// What the broker opens: the rows of its filter are made from these, too.
std::span<const BrokeredSocket> brokered_sockets();

// Forks a broker and keeps the channel to it. root: the empty folder that becomes its root directory; -1: it keeps this process's (for
// kernel_run). capabilities: CAP_NET_RAW, CAP_NET_BIND_SERVICE, of which it keeps those that this process has. Before the first thread.
Result<void> start_network_broker(int root, uint64_t capabilities);
// For a child that has been forked already: becomes the broker at the other end of `channel`. Ends if it cannot be confined.
[[noreturn]] void become_network_broker(UniqueFd channel, int root, pid_t kernel, uint64_t capabilities);
// The channel to it, in the kernel process. Once, before the first thread.
void set_network_broker(UniqueFd channel);

// A non-blocking socket of the pod's network, opened by the broker. EPERM: there is none, or it has gone.
Result<UniqueFd> open_brokered_socket(int family, int type, int protocol);
// bind(2) of an IPv4 or IPv6 socket by the broker. EACCES: there is none, or it may not either.
Result<void> bind_by_broker(int fd, const sockaddr* address, socklen_t length);

}  // namespace caisson::kernel
