// UnixEndpoint: the part of a Unix socket that others reach: its queue of messages, its peer, its backlog. A connection that has not been
// accepted yet is an endpoint without a file.
//
// Locks: each endpoint's own, of the level of inodes; two are held only by connect, the listener's before the client's. No file is released
// with one held.
#pragma once

#include <deque>
#include <map>
#include <utility>

#include "kernel/ipc/chunk.h"
#include "kernel/net/socket.h"

namespace caisson::kernel {

class NetworkNamespace;

// Releases files; sockets that die by it release theirs afterwards instead of deeper on the stack: descriptors in flight can be nested as
// deeply as a guest likes.
void release_files(std::vector<FileRef> files);

// Files that are in flight in all queues. Beyond this sends fail with ETOOMANYREFS; so a guest that sends a socket over itself, which
// nothing ever collects, is bounded.
inline constexpr long kMostInFlight = 65536;

// Counts descriptors in flight for as long as it lives.
class InFlight {
 public:
  InFlight() = default;
  // ETOOMANYREFS.
  static Result<InFlight> of(size_t files);
  InFlight(InFlight&& other) noexcept : count_(std::exchange(other.count_, 0)) {}
  InFlight& operator=(InFlight&& other) noexcept {
    std::swap(count_, other.count_);
    return *this;
  }
  ~InFlight();

 private:
  long count_ = 0;
};

struct UnixMessage {
  Chunk data;
  std::vector<FileRef> files;
  InFlight flight;  // of the files
  PeerCredentials identity;
  SocketAddress from;
};

class UnixEndpoint : public std::enable_shared_from_this<UnixEndpoint> {
 public:
  UnixEndpoint(int type, std::shared_ptr<NetworkNamespace> network) : type(type), network(std::move(network)) {}
  ~UnixEndpoint();
  static constexpr size_t kBuffer = 212'992, kMostBuffer = 4 << 20;
  static constexpr size_t kMostDatagrams = 512;  // of a queue, before senders wait

  const int type;
  const std::shared_ptr<NetworkNamespace> network;  // whose abstract names it knows
  WaitQueue queue;

  std::mutex lock;
  // All of it under `lock`.
  enum class State { Fresh, Listening, Connected, Closed } state = State::Fresh;
  SocketAddress address;               // bound to
  InodeRef place;                      // the inode it is bound to, kept so that its number is not used again
  std::shared_ptr<UnixEndpoint> peer;  // connected to; cleared when either ends (streams), or by connect (datagrams)
  SocketAddress peer_address;
  PeerCredentials credentials;  // of who bound, connected or listened: what the peer sees
  PeerCredentials peer_credentials;
  std::deque<UnixMessage> messages;
  size_t bytes = 0;       // of them, with what is reserved by writers
  size_t room = kBuffer;  // SO_RCVBUF of this end and SO_SNDBUF of the other: the smaller
  size_t send_room = kBuffer;
  bool read_shut = false, write_shut = false, peer_gone = false;
  bool pass_credentials = false;
  int error = 0;  // SO_ERROR
  size_t backlog = 0;
  std::deque<std::shared_ptr<UnixEndpoint>> pending;
  std::vector<std::weak_ptr<UnixEndpoint>> senders;  // datagrams: connected to this one, and told when there is room again

  // Something was taken out: wakes who waits for room. Without the lock.
  void drained();
  bool connection_oriented() const { return type != SOCK_DGRAM; }
  // Ends it: its file has been closed, or it was never accepted.
  void close();
  int take_error() {
    const int taken = error;
    error = 0;
    return taken;
  }
};
using UnixEndpointRef = std::shared_ptr<UnixEndpoint>;

// Names: the abstract ones, which are those of the socket's network, and inodes that sockets are bound to, which are everybody's.
class UnixNames {
 public:
  static UnixNames& get();
  // EADDRINUSE.
  Result<void> add_abstract(std::string name, const UnixEndpointRef& endpoint);
  // A free name of five hexadecimal digits (unix(7), autobind).
  Result<std::string> add_automatic(const UnixEndpointRef& endpoint);
  void add_inode(const struct statx& stat, const UnixEndpointRef& endpoint);
  UnixEndpointRef find_abstract(const NetworkNamespace& network, const std::string& name);
  UnixEndpointRef find_inode(const struct statx& stat);
  void remove(UnixEndpoint& endpoint);

 private:
  using InodeKey = std::tuple<uint32_t, uint32_t, uint64_t>;
  std::mutex lock_;  // a leaf
  struct Entry {
    UnixEndpoint* key;
    std::weak_ptr<UnixEndpoint> endpoint;
  };
  using AbstractKey = std::pair<uint64_t, std::string>;  // a network's number, and the name
  static AbstractKey key_of(const NetworkNamespace& network, std::string name);
  std::map<AbstractKey, Entry> abstract_;
  std::map<InodeKey, Entry> inodes_;
  uint32_t next_automatic_ = 0;
};

}  // namespace caisson::kernel
