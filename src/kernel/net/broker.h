// The network broker: a tiny process in the pod's network namespace that does for the kernel process what takes capabilities in the user
// namespace that owns the network namespace, which is the node's: it opens raw and packet sockets (CAP_NET_RAW; everything after socket(2)
// works without, but for a second SO_BINDTODEVICE of one socket), binds sockets to low ports (CAP_NET_BIND_SERVICE), and, for a guest that
// may configure the network (CAP_NET_ADMIN), sends netlink requests, and makes a few ioctls and socket options. So the kernel process,
// which may be taken, need have no capability there. What a netlink request may say is checked here (netlink_requests.h): a kernel process
// that has been taken cannot name the network namespaces of others.
//
// It is a fork of the kernel process before any guest runs, with an empty root directory, one descriptor, those of the three capabilities
// that it is made for and the calls of broker_calls() (platform/host_rows.h). It ends with the kernel process.
//
// A *room* is a broker of another kind: it is alone in a network namespace that a guest has made (net/room_maker.h), and opens every socket
// of that for the kernel process.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <string_view>

#include "base/unique_fd.h"
#include "kernel/errno.h"

namespace caisson::kernel {

struct BrokeredSocket {
  int family, type;
  std::span<const uint32_t> protocols;  // empty: all up to most_protocol
  int most_protocol;
  const char *words, *protocol_words;
};
struct BrokeredOption {
  int level, name;
};
// What a broker, and what a room opens: the rows of their filters are made from these, too.
std::span<const BrokeredSocket> brokered_sockets();
std::span<const BrokeredSocket> room_sockets();
// The socket options that both set: numbers of four bytes.
std::span<const BrokeredOption> brokered_options();
// Those of host_ioctls() that change an interface, which a broker makes; a room makes none about bridges.
bool is_for_rooms(unsigned ioctl);

// Forks a broker and keeps the channel to it (pod_broker()). root: the empty folder that becomes its root directory; -1: it keeps this
// process's (for kernel_run). capabilities: those of broker_capabilities() that it is to have; it keeps what this process has of them.
// Before the first thread.
Result<void> start_network_broker(int root, uint64_t capabilities);
// For a child of the kernel process that has been forked already: becomes the broker at the other end of `channel`. kernel 0: it is
// nobody's child, and ends with the channel. Ends if it cannot be confined.
[[noreturn]] void become_network_broker(UniqueFd channel, int root, pid_t kernel, uint64_t capabilities);

// For a process that has been confined: serves the channel, descriptor 0, as a room. The settings of networks (/proc/sys/net) are
// descriptor 1.
inline constexpr int kSettingsFd = 1;
inline constexpr uint32_t kSettingFlags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW;  // how it opens them
[[noreturn]] void serve_as_room();

// Whether those requests of a netlink socket's take CAP_NET_ADMIN.
bool needs_administrator(int protocol, std::span<const char> requests);
inline constexpr size_t kMostRequests = 65'536;

// The kernel process's end of a broker or room. Any thread.
class NetworkBroker {
 public:
  NetworkBroker() = default;  // of none: what it is asked fails with EPERM, or EACCES
  NetworkBroker(const NetworkBroker&) = delete;
  NetworkBroker& operator=(const NetworkBroker&) = delete;

  // What it has; in the place of the one before, which ends.
  void set(UniqueFd channel, uint64_t capabilities);
  void set_room(UniqueFd channel);

  // It may configure the network.
  bool administers() const;
  // A non-blocking socket of its network. EPROTONOSUPPORT: of a kind that it does not open; EPERM: there is none, or it has gone.
  Result<UniqueFd> open(int family, int type, int protocol);
  // bind(2) of an IPv4 or IPv6 socket. EACCES: there is none, or it may not either.
  Result<void> bind(int fd, const sockaddr* address, socklen_t length);
  // For a guest that may configure the network. EPERM: there is no broker that may.
  //
  // Sends requests to the host's kernel on a netlink socket; answers come to that. How many bytes were sent. EMSGSIZE: more than
  // kMostRequests.
  Result<size_t> send(int fd, std::span<const char> requests);
  // One of host_ioctls() that changes an interface, with its struct ifreq.
  Result<void> ioctl(int fd, unsigned command, std::span<const char> argument);
  // One of brokered_options().
  Result<void> set_option(int fd, int level, int name, int value);
  // Of a room: a file or folder below its /proc/sys/net, to be read. "": that itself.
  Result<UniqueFd> open_setting(std::string_view path);

 private:
  struct Answer;
  Result<Answer> ask(struct BrokerRequest& request, int with, std::span<const char> rest = {});
  std::mutex lock_;
  UniqueFd channel_;  // under lock_
  std::atomic<uint64_t> capabilities_ = 0;
  std::atomic<bool> room_ = false;
};
// That of the pod's network.
NetworkBroker& pod_broker();

}  // namespace caisson::kernel
