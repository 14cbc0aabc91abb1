// Socket: what all kinds of sockets can be asked. Unix sockets live in the kernel (net/unix_socket.h); the others are sockets of the pod's
// network namespace that the kernel process owns (net/host_socket.h).
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "kernel/task/task.h"
#include "kernel/vfs/anonymous.h"

namespace caisson::kernel {

// A socket address: bytes that the guest gave or that the host gave; at most sizeof(sockaddr_storage).
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  sa_family_t family() const { return length >= sizeof(sa_family_t) ? storage.ss_family : static_cast<sa_family_t>(AF_UNSPEC); }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// Who a message or a connection comes from, as the kernel counts.
struct PeerCredentials {
  TaskIdRef process;  // null: nobody
  uid_t uid = 65534;
  gid_t gid = 65534;
  bool operator==(const PeerCredentials&) const = default;
  // As the task's namespaces have it.
  ucred shown_to(const Task& task) const {
    const UserNamespace& user = *task.creds->user;
    return {number_in(process, *task.group->pids), user.shown(UserNamespace::Ids::Users, uid), user.shown(UserNamespace::Ids::Groups, gid)};
  }
};

// What sendmsg(2) is given beside the bytes.
struct OutgoingMessage {
  std::optional<SocketAddress> to;
  std::vector<FileRef> files;               // SCM_RIGHTS
  std::optional<PeerCredentials> identity;  // SCM_CREDENTIALS, checked
  std::string control;                      // everything else, as it came: the kinds and lengths are the socket's to check
  int flags = 0;
};

// What recvmsg(2) gives beside the bytes.
struct IncomingMessage {
  SocketAddress from;
  std::vector<FileRef> files;
  std::optional<PeerCredentials> identity;
  std::string control;  // further control messages, each aligned
  int flags = 0;        // in: MSG_* of the call; out: MSG_TRUNC, MSG_EOR...
  // The bytes that recv(2) returns; with MSG_TRUNC more than were put.
  size_t length = 0;
};

class Socket : public AnonymousFile {
 public:
  Socket(int family, int type, int protocol, int flags)
      : AnonymousFile("socket", S_IFSOCK | 0777, O_RDWR | (flags & O_NONBLOCK)), family_(family), type_(type), protocol_(protocol) {}

  virtual Result<void> bind(Task& task, const SocketAddress& address) = 0;
  virtual Result<void> connect(Task& task, const SocketAddress& address) = 0;
  virtual Result<void> listen(Task& task, int backlog) = 0;
  virtual Result<FileRef> accept(Task& task, int flags, SocketAddress* peer) = 0;
  virtual Result<SocketAddress> name() = 0;
  virtual Result<SocketAddress> peer_name() = 0;
  virtual Result<void> shutdown(int how) = 0;
  // Wait as the socket's and the message's flags and timeouts say. EPIPE: the caller sends the signal.
  virtual Result<size_t> send(Task& task, IoBuffer& data, OutgoingMessage& message) = 0;
  virtual Result<void> receive(Task& task, IoBuffer& data, IncomingMessage& message) = 0;
  // The option's value, cut to `room`.
  virtual Result<std::string> option(Task& task, int level, int name, size_t room);
  virtual Result<void> set_option(Task& task, int level, int name, std::string_view value);

  Result<size_t> read(Task& task, IoBuffer& buffer, off_t offset) override;
  Result<size_t> write(Task& task, IoBuffer& buffer, off_t offset) override;
  bool sleeps_itself() const override { return true; }

  int family() const { return family_; }
  int type() const { return type_; }
  int protocol() const { return protocol_; }

 protected:
  Deadline receive_deadline() const { return deadline(receive_timeout_); }
  Deadline send_deadline() const { return deadline(send_timeout_); }

 private:
  static Deadline deadline(int64_t timeout) { return timeout == 0 ? Deadline::never() : Deadline::after(timeout); }
  const int family_, type_, protocol_;
  std::atomic<int64_t> receive_timeout_{0}, send_timeout_{0};  // nanoseconds; 0: none
};

// Waits on a queue that need not be a file's own: tries operation() until it answers other than EAGAIN. arm() runs before each sleep. A
// signal: kRestartSys, or EINTR where there is a deadline (socket(7), SO_RCVTIMEO).
template <typename Operation, typename Arm>
auto wait_on(Task& task, WaitQueue& queue, Events events, bool dont_wait, Deadline deadline, Operation&& operation, Arm&& arm)
    -> decltype(operation()) {
  auto result = operation();
  if (result.ok() || result.error() != Errno(EAGAIN) || dont_wait) return result;
  TaskWaiter waiter(task, queue, events | POLLERR | POLLHUP);
  for (;;) {
    task.prepare_to_block();
    arm();
    auto again = operation();
    if (again.ok() || again.error() != Errno(EAGAIN)) return again;
    if (auto slept = task.block(deadline); !slept) {
      if (slept.error() == Errno(ETIMEDOUT)) return Errno(EAGAIN);
      return deadline.is_never() ? slept.error() : Errno(EINTR);
    }
  }
}

}  // namespace caisson::kernel
