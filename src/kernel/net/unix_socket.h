// UnixSocket: unix(7), wholly in the kernel: stream, datagram, seqpacket; bound to paths, to abstract names, or to nothing.
#pragma once

#include "kernel/net/unix_endpoint.h"

namespace caisson::kernel {

class UnixSocket : public Socket {
 public:
  UnixSocket(UnixEndpointRef endpoint, int flags) : Socket(AF_UNIX, endpoint->type, 0, flags), self_(std::move(endpoint)) {}
  ~UnixSocket() override { self_->close(); }
  // In the task's network. type: SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET.
  static std::shared_ptr<UnixSocket> create(Task& task, int type, int flags);
  // socketpair(2).
  static std::pair<std::shared_ptr<UnixSocket>, std::shared_ptr<UnixSocket>> create_pair(Task& task, int type, int flags);

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
  WaitQueue* wait_queue() override { return &self_->queue; }
  Result<long> ioctl(Task& task, unsigned command, uint64_t argument) override;

 private:
  Result<void> connect_once(Task& task, const UnixEndpointRef& target);
  Result<void> connect_datagram(Task& task, const SocketAddress& address);
  Result<size_t> send_stream(Task& task, IoBuffer& data, OutgoingMessage& message);
  Result<size_t> send_datagram(Task& task, IoBuffer& data, OutgoingMessage& message);
  Result<UnixEndpointRef> destination(Task& task, const OutgoingMessage& message);
  Result<std::vector<UnixMessage>> take_stream(size_t size, bool peek);
  Result<size_t> receive_stream_once(IoBuffer& data, IncomingMessage& message, bool peek, bool first);
  Result<void> receive_packet(IoBuffer& data, IncomingMessage& message, bool peek);
  void deliver(UnixMessage& from, IncomingMessage& to);

  const UnixEndpointRef self_;
};

// The endpoint that an address names to a socket of that network, for connect and sendto. ECONNREFUSED, and what a path walk answers.
Result<UnixEndpointRef> find_endpoint(Task& task, const NetworkNamespace& network, const SocketAddress& address);
PeerCredentials credentials_of(Task& task);

}  // namespace caisson::kernel
