// HostSocket: a socket of the pod's network namespace, or of one of a guest's, owned by the kernel process: IPv4, IPv6, netlink, packet.
// The host's stack does the work; what passes through is copied once and checked against lists (net/host_options.h).
#pragma once

#include <linux/if_packet.h>

#include <memory>
#include <mutex>
#include <optional>

#include "base/unique_fd.h"
#include "kernel/net/socket.h"

namespace caisson::kernel {

class HostWatcher;
class NetworkNamespace;
class PacketRing;

class HostSocket : public Socket {
 public:
  // Makes one. EAFNOSUPPORT, EPROTONOSUPPORT, EPERM...
  static Result<std::shared_ptr<HostSocket>> create(Task& task, int family, int type, int protocol, int flags);
  HostSocket(UniqueFd fd, std::shared_ptr<NetworkNamespace> network, Kernel& kernel, int family, int type, int protocol, int flags);
  ~HostSocket() override;

  Result<void> bind(Task& task, const SocketAddress& address) override;
  Result<void> connect(Task& task, const SocketAddress& address) override;
  Result<void> listen(Task& task, int backlog) override;
  Result<FileRef> accept(Task& task, int flags, SocketAddress* peer) override;
  Result<SocketAddress> name() override;
  Result<SocketAddress> peer_name() override;
  Result<void> shutdown(int how) override;
  Result<size_t> send(Task& task, IoBuffer& data, OutgoingMessage& message) override;
  Result<void> receive(Task& task, IoBuffer& data, IncomingMessage& message) override;
  Result<std::string> option(Task& task, int level, int name, size_t room) override;
  Result<void> set_option(Task& task, int level, int name, std::string_view value) override;
  Events poll() override;
  WaitQueue* wait_queue() override { return &shared_->queue; }
  void arm(Events events) override;
  Result<long> ioctl(Task& task, unsigned command, uint64_t argument) override;
  int host_fd() const override { return fd_.get(); }
  // With the host's inode, by which /proc/net/tcp and the diagnostic sockets name it: ss(8), lsof(8), fuser(1) look for who has it open.
  Result<struct statx> stat() override;
  // The ring of a packet socket.
  Result<MapSource> map(uint64_t offset, uint64_t length, int prot, int flags) override;
  std::string description() const override;

 private:
  ino_t host_inode() const;
  // What the watcher's thread touches.
  struct Shared {
    WaitQueue queue;
  };
  std::shared_ptr<PacketRing> ring();
  // Options about the ring; none: it is about something else.
  std::optional<Result<void>> set_ring_option(int name, std::string_view value);
  Result<size_t> send_once(const OutgoingMessage& message, const void* bytes, size_t size, std::string& control);
  Result<void> receive_once(IoBuffer& data, IncomingMessage& message, int flags);

  // A guest task that may do what takes this capability in the socket's network.
  bool lets(Task& task, int capability) const;
  // The same of who may configure it, where that can be done.
  bool administers(Task& task) const;

  UniqueFd fd_;
  const std::shared_ptr<NetworkNamespace> network_;  // that it was made in, wherever it goes
  // Of a packet socket; a ring that has been taken away lives while somebody fills or maps it.
  std::mutex ring_lock_;
  std::shared_ptr<PacketRing> ring_;
  unsigned ring_version_ = TPACKET_V1;
  unsigned ring_reserve_ = 0;
  Kernel& kernel_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::mutex watch_lock_;
  uint64_t watch_ = 0;
};

// An ioctl(2) about network devices, which a socket of any family answers: those of its network. ENOTTY: it is about something else.
Result<long> any_socket_ioctl(Task& task, NetworkNamespace& network, unsigned command, uint64_t argument);

}  // namespace caisson::kernel
