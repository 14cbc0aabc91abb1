// UeventSocket: a netlink socket of NETLINK_KOBJECT_UEVENT: who listens hears of devices that come and go. None do so in a sandbox, and the
// node's are nobody's business here, so it is no socket of the host's: it is bound, filters and waits like one, and nothing comes.
#pragma once

#include <linux/netlink.h>

#include <mutex>

#include "kernel/net/socket.h"

namespace caisson::kernel {

class UeventSocket : public Socket {
 public:
  // ESOCKTNOSUPPORT: neither SOCK_RAW nor SOCK_DGRAM.
  static Result<std::shared_ptr<UeventSocket>> create(int type, int flags);
  UeventSocket(int type, int flags) : Socket(AF_NETLINK, type, NETLINK_KOBJECT_UEVENT, flags) {}

  Result<void> bind(Task& task, const SocketAddress& address) override;
  Result<void> connect(Task& task, const SocketAddress& address) override;
  Result<void> listen(Task&, int) override { return Errno(EOPNOTSUPP); }
  Result<FileRef> accept(Task&, int, SocketAddress*) override { return Errno(EOPNOTSUPP); }
  Result<SocketAddress> name() override;
  Result<SocketAddress> peer_name() override;
  Result<void> shutdown(int) override { return Errno(EOPNOTSUPP); }
  // As where nobody listens.
  Result<size_t> send(Task&, IoBuffer&, OutgoingMessage&) override { return Errno(ECONNREFUSED); }
  Result<void> receive(Task& task, IoBuffer& data, IncomingMessage& message) override;
  Result<std::string> option(Task& task, int level, int name, size_t room) override;
  Result<void> set_option(Task& task, int level, int name, std::string_view value) override;
  Events poll() override { return POLLOUT | POLLWRNORM; }
  WaitQueue* wait_queue() override { return &queue_; }

 private:
  WaitQueue queue_;  // that nobody wakes
  std::mutex lock_;
  sockaddr_nl name_{.nl_family = AF_NETLINK, .nl_pad = 0, .nl_pid = 0, .nl_groups = 0};
  int receive_buffer_ = 212992;  // as the host's default is
};

}  // namespace caisson::kernel
