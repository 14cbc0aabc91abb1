// Sockets.
#include <linux/if_packet.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel/ipc/pipe.h"
#include "kernel/net/host_socket.h"
#include "kernel/net/packet_ring.h"
#include "kernel/net/uevent_socket.h"
#include "kernel/net/unix_socket.h"
#include "kernel/syscalls/descriptors.h"
#include "kernel/syscalls/families.h"
#include "kernel/task/kernel.h"
#include "kernel/time/clock.h"

namespace caisson::kernel {
namespace {

constexpr int kTypeMask = 0xf;
constexpr size_t kMostControl = 20480, kMostOption = 4096, kMostFiles = 253;

// struct msghdr of the guest.
struct MessageHeader {
  uint64_t name;
  uint32_t name_length, pad;
  uint64_t vectors, vector_count;
  uint64_t control, control_length;
  uint32_t flags, pad2;
};
static_assert(sizeof(MessageHeader) == 56);
struct ManyHeader {
  MessageHeader header;
  uint32_t length, pad;
};

Result<std::shared_ptr<Socket>> socket_of(Task& task, Fd fd) { return file_as<Socket>(task, fd, ENOTSOCK); }

Result<SocketAddress> read_address(Task& task, uint64_t from, socklen_t length) {
  SocketAddress address;
  if (static_cast<int>(length) < 0 || length > sizeof address.storage) return Errno(EINVAL);
  TRY(task.read_bytes(from, &address.storage, length));
  address.length = length;
  return address;
}

// Writes as much as there is room for; *length becomes the whole.
Result<void> write_address(Task& task, const SocketAddress& address, uint64_t to, UserPtr<int> length) {
  if (to == 0) return {};
  const int room = TRY(task.read(length));
  if (room < 0) return Errno(EINVAL);
  TRY(task.write_bytes(to, &address.storage, std::min<size_t>(address.length, static_cast<size_t>(room))));
  return task.write(length, static_cast<int>(address.length));
}

Result<void> check_type(int type) {
  if ((type & ~(kTypeMask | SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) return Errno(EINVAL);
  return {};
}

Result<long> sys_socket(Task& task, int family, int type, int protocol) {
  TRY(check_type(type));
  const int kind = type & kTypeMask, flags = type & O_NONBLOCK;
  std::shared_ptr<Socket> socket;
  if (family == AF_UNIX) {
    if (protocol != 0 && protocol != AF_UNIX) return Errno(EPROTONOSUPPORT);
    // As Linux: SOCK_RAW is a datagram socket here.
    const int real = kind == SOCK_RAW ? static_cast<int>(SOCK_DGRAM) : kind;
    if (real != SOCK_STREAM && real != SOCK_DGRAM && real != SOCK_SEQPACKET) return Errno(ESOCKTNOSUPPORT);
    socket = UnixSocket::create(task, real, flags);
  } else if (family == AF_NETLINK && protocol == NETLINK_KOBJECT_UEVENT) {
    socket = TRY(UeventSocket::create(kind, flags));
  } else {
    socket = TRY(HostSocket::create(task, family, kind, protocol, flags));
  }
  return install(task, std::move(socket), (type & SOCK_CLOEXEC) != 0);
}

struct TwoFds {
  int first, second;
};

Result<long> sys_socketpair(Task& task, int family, int type, int protocol, UserPtr<TwoFds> to) {
  TRY(check_type(type));
  if (family != AF_UNIX) return Errno(family == AF_INET || family == AF_INET6 ? EOPNOTSUPP : EAFNOSUPPORT);
  if (protocol != 0 && protocol != AF_UNIX) return Errno(EPROTONOSUPPORT);
  const int kind = (type & kTypeMask) == SOCK_RAW ? static_cast<int>(SOCK_DGRAM) : type & kTypeMask;
  if (kind != SOCK_STREAM && kind != SOCK_DGRAM && kind != SOCK_SEQPACKET) return Errno(ESOCKTNOSUPPORT);
  auto [one, two] = UnixSocket::create_pair(task, kind, type & O_NONBLOCK);
  const bool close_on_exec = (type & SOCK_CLOEXEC) != 0;
  TwoFds fds{};
  fds.first = static_cast<int>(TRY(install(task, one, close_on_exec)));
  const Result<long> second = install(task, two, close_on_exec);
  if (second) {
    fds.second = static_cast<int>(*second);
    const Result<void> written = task.write(to, fds);
    if (written) return 0L;
    (void)task.fds->remove(fds.second);
    (void)task.fds->remove(fds.first);
    return written.error();
  }
  (void)task.fds->remove(fds.first);
  return second.error();
}

Result<long> sys_bind(Task& task, Fd fd, UserPtr<const void> address, int length) {
  const auto socket = TRY(socket_of(task, fd));
  TRY(socket->bind(task, TRY(read_address(task, address.address(), length))));
  return 0L;
}

Result<long> sys_connect(Task& task, Fd fd, UserPtr<const void> address, int length) {
  const auto socket = TRY(socket_of(task, fd));
  TRY(socket->connect(task, TRY(read_address(task, address.address(), length))));
  return 0L;
}

Result<long> sys_listen(Task& task, Fd fd, int backlog) {
  TRY(TRY(socket_of(task, fd))->listen(task, backlog));
  return 0L;
}

Result<long> sys_accept4(Task& task, Fd fd, UserPtr<void> address, UserPtr<int> length, int flags) {
  if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) return Errno(EINVAL);
  const auto socket = TRY(socket_of(task, fd));
  SocketAddress peer;
  FileRef accepted = TRY(socket->accept(task, flags & O_NONBLOCK, &peer));
  if (address) TRY(write_address(task, peer, address.address(), length));
  return install(task, std::move(accepted), (flags & SOCK_CLOEXEC) != 0);
}

Result<long> sys_accept(Task& task, Fd fd, UserPtr<void> address, UserPtr<int> length) { return sys_accept4(task, fd, address, length, 0); }

Result<long> sys_getsockname(Task& task, Fd fd, UserPtr<void> address, UserPtr<int> length) {
  const SocketAddress name = TRY(TRY(socket_of(task, fd))->name());
  if (!address) return Errno(EFAULT);
  TRY(write_address(task, name, address.address(), length));
  return 0L;
}

Result<long> sys_getpeername(Task& task, Fd fd, UserPtr<void> address, UserPtr<int> length) {
  const SocketAddress name = TRY(TRY(socket_of(task, fd))->peer_name());
  if (!address) return Errno(EFAULT);
  TRY(write_address(task, name, address.address(), length));
  return 0L;
}

Result<long> sys_shutdown(Task& task, Fd fd, int how) {
  const auto socket = TRY(socket_of(task, fd));
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  TRY(socket->shutdown(how));
  return 0L;
}

Result<long> sys_getsockopt(Task& task, Fd fd, int level, int name, UserPtr<void> to, UserPtr<int> length) {
  const auto socket = TRY(socket_of(task, fd));
  const int room = TRY(task.read(length));
  if (room < 0) return Errno(EINVAL);
  if (level == SOL_PACKET && name == PACKET_HDRLEN && socket->family() == AF_PACKET) {
    // The one option whose value is a question, too.
    const int answer = TRY(packet_header_length(TRY(task.read(UserPtr<int>(to.address())))));
    if (static_cast<size_t>(room) < sizeof answer) return Errno(EINVAL);
    TRY(task.write(UserPtr<int>(to.address()), answer));
    TRY(task.write(length, static_cast<int>(sizeof answer)));
    return 0L;
  }
  const std::string value = TRY(socket->option(task, level, name, std::min<size_t>(static_cast<size_t>(room), kMostOption)));
  TRY(task.write_bytes(to.address(), value.data(), value.size()));
  TRY(task.write(length, static_cast<int>(value.size())));
  return 0L;
}

Result<long> sys_setsockopt(Task& task, Fd fd, int level, int name, UserPtr<const void> from, int length) {
  const auto socket = TRY(socket_of(task, fd));
  if (length < 0) return Errno(EINVAL);
  std::string value(std::min<size_t>(static_cast<size_t>(length), kMostOption), '\0');
  TRY(task.read_bytes(from.address(), value.data(), value.size()));
  TRY(socket->set_option(task, level, name, value));
  return 0L;
}

// SCM_CREDENTIALS: a process may give its own numbers; others need the right to (unix(7)).
Result<PeerCredentials> check_identity(Task& task, const char* data, size_t size) {
  ucred who;
  if (size != sizeof who) return Errno(EINVAL);
  memcpy(&who, data, sizeof who);
  const Credentials& creds = *task.creds;
  const auto uid = creds.user->to_kernel(UserNamespace::Ids::Users, who.uid),
             gid = creds.user->to_kernel(UserNamespace::Ids::Groups, who.gid);
  if (!uid || !gid) return Errno(EINVAL);
  const bool pid_ok = who.pid == task.group->pid || creds.has_in(*task.group->pids->owner, kCapSysAdmin);
  const bool uid_ok = *uid == creds.uid || *uid == creds.euid || *uid == creds.suid || creds.has_own(kCapSetuid);
  const bool gid_ok = *gid == creds.gid || *gid == creds.egid || *gid == creds.sgid || creds.has_own(kCapSetgid);
  if (!pid_ok || !uid_ok || !gid_ok) return Errno(EPERM);
  std::lock_guard guard(task.kernel.tasks);
  const auto named = task.group->pids->groups.find(who.pid);
  if (named == task.group->pids->groups.end()) return Errno(ESRCH);
  return PeerCredentials{named->second->id, *uid, *gid};
}

Result<void> parse_control(Task& task, std::string_view control, OutgoingMessage& message) {
  while (control.size() >= sizeof(cmsghdr)) {
    cmsghdr header;
    memcpy(&header, control.data(), sizeof header);
    if (header.cmsg_len < sizeof header || header.cmsg_len > control.size()) return Errno(EINVAL);
    const char* data = control.data() + sizeof header;
    const size_t size = header.cmsg_len - sizeof header;
    if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_RIGHTS) {
      if (size % sizeof(int) != 0 || message.files.size() + size / sizeof(int) > kMostFiles) return Errno(EINVAL);
      for (size_t i = 0; i < size / sizeof(int); ++i) {
        int fd;
        memcpy(&fd, data + i * sizeof fd, sizeof fd);
        message.files.push_back(TRY(task.fds->get(fd)));
      }
    } else if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_CREDENTIALS) {
      message.identity = TRY(check_identity(task, data, size));
    } else {
      const size_t end = message.control.size();
      message.control.append(control.data(), header.cmsg_len);
      message.control.resize(end + CMSG_ALIGN(header.cmsg_len));
    }
    control.remove_prefix(std::min<size_t>(CMSG_ALIGN(header.cmsg_len), control.size()));
  }
  return {};
}

// A failed send's SIGPIPE.
Result<long> finish_send(Task& task, Socket& socket, Result<size_t> sent, int flags) {
  if (sent) return static_cast<long>(*sent);
  if (sent.error() == Errno(EPIPE) && (flags & MSG_NOSIGNAL) == 0 && socket.type() != SOCK_DGRAM) return broken_pipe(task);
  return sent.error();
}

Result<long> send_message(Task& task, Socket& socket, const MessageHeader& header, int flags) {
  if (header.vector_count > 1024) return Errno(EMSGSIZE);
  OutgoingMessage message;
  message.flags = flags;
  if (header.name != 0 && header.name_length > 0)
    message.to = TRY(read_address(task, header.name, std::min<uint32_t>(header.name_length, sizeof(sockaddr_storage))));
  if (header.control_length > 0 && header.control != 0) {
    if (header.control_length > kMostControl) return Errno(ENOBUFS);
    std::string control(header.control_length, '\0');
    TRY(task.read_bytes(header.control, control.data(), control.size()));
    TRY(parse_control(task, control, message));
  }
  IoBuffer data = TRY(task.read_io_vectors(header.vectors, static_cast<int>(header.vector_count)));
  return finish_send(task, socket, socket.send(task, data, message), flags);
}

Result<long> sys_sendmsg(Task& task, Fd fd, UserPtr<const MessageHeader> at, int flags) {
  const auto socket = TRY(socket_of(task, fd));
  return send_message(task, *socket, TRY(task.read(at)), flags);
}

Result<long> sys_sendto(Task& task, Fd fd, UserPtr<const void> from, uint64_t size, int flags, UserPtr<const void> address, int length) {
  const auto socket = TRY(socket_of(task, fd));
  OutgoingMessage message;
  message.flags = flags;
  if (address) message.to = TRY(read_address(task, address.address(), length));
  IoBuffer data = task.buffer(from.address(), size);
  return finish_send(task, *socket, socket->send(task, data, message), flags);
}

Result<long> sys_sendmmsg(Task& task, Fd fd, UserPtr<ManyHeader> at, unsigned count, int flags) {
  const auto socket = TRY(socket_of(task, fd));
  count = std::min(count, 1024U);
  for (unsigned i = 0; i < count; ++i) {
    Result<long> sent = Errno(EFAULT);
    if (Result<ManyHeader> header = task.read(at + i); header) sent = send_message(task, *socket, header->header, flags);
    if (!sent) return i > 0 ? Result<long>(static_cast<long>(i)) : sent;
    TRY(task.write(UserPtr<uint32_t>((at + i).address() + offsetof(ManyHeader, length)), static_cast<uint32_t>(*sent)));
  }
  return static_cast<long>(count);
}

// Control messages for the guest, in a buffer of `room` bytes.
class ControlWriter {
 public:
  explicit ControlWriter(size_t room) : room_(room) {}
  void add(int level, int type, const void* data, size_t size) {
    if (room_ - bytes_.size() < CMSG_LEN(0)) {
      truncated_ = true;
      return;
    }
    const size_t fits = std::min(CMSG_LEN(size), room_ - bytes_.size());
    if (fits < CMSG_LEN(size)) truncated_ = true;
    cmsghdr header{};
    header.cmsg_len = fits;
    header.cmsg_level = level;
    header.cmsg_type = type;
    const size_t end = bytes_.size();
    bytes_.append(reinterpret_cast<const char*>(&header), sizeof header);
    bytes_.append(static_cast<const char*>(data), fits - sizeof header);
    bytes_.resize(std::min(room_, end + CMSG_ALIGN(fits)));
  }
  // How many descriptors one SCM_RIGHTS message has room for.
  size_t descriptors_that_fit() const {
    const size_t left = room_ - bytes_.size();
    return left < CMSG_LEN(sizeof(int)) ? 0 : (left - CMSG_LEN(0)) / sizeof(int);
  }
  void truncate() { truncated_ = true; }
  bool truncated() const { return truncated_; }
  const std::string& bytes() const { return bytes_; }

 private:
  const size_t room_;
  std::string bytes_;
  bool truncated_ = false;
};

void add_files(Task& task, IncomingMessage& message, bool close_on_exec, ControlWriter& out) {
  if (message.files.empty()) return;
  const size_t count = std::min(message.files.size(), out.descriptors_that_fit());
  if (count < message.files.size()) out.truncate();
  std::vector<int> fds;
  for (size_t i = 0; i < count; ++i) {
    const Result<long> fd = install(task, message.files[i], close_on_exec);
    if (!fd) {
      out.truncate();
      break;
    }
    fds.push_back(static_cast<int>(*fd));
  }
  if (!fds.empty()) out.add(SOL_SOCKET, SCM_RIGHTS, fds.data(), fds.size() * sizeof(int));
  release_files(std::move(message.files));
  message.files.clear();
}

Result<long> receive_message(Task& task, Socket& socket, UserPtr<MessageHeader> at, int flags) {
  const MessageHeader header = TRY(task.read(at));
  if (header.vector_count > 1024) return Errno(EMSGSIZE);
  IoBuffer data = TRY(task.read_io_vectors(header.vectors, static_cast<int>(header.vector_count)));
  IncomingMessage message;
  message.flags = flags;
  TRY(socket.receive(task, data, message));
  const size_t room = header.control == 0 ? 0 : std::min<size_t>(header.control_length, kMostControl);
  ControlWriter control(room);
  if (message.identity) {
    const ucred shown = message.identity->shown_to(task);
    control.add(SOL_SOCKET, SCM_CREDENTIALS, &shown, sizeof shown);
  }
  add_files(task, message, (flags & MSG_CMSG_CLOEXEC) != 0, control);
  std::string_view others = message.control;
  while (others.size() >= sizeof(cmsghdr)) {
    cmsghdr each;
    memcpy(&each, others.data(), sizeof each);
    control.add(each.cmsg_level, each.cmsg_type, others.data() + sizeof each, each.cmsg_len - sizeof each);
    others.remove_prefix(std::min<size_t>(CMSG_ALIGN(each.cmsg_len), others.size()));
  }
  uint32_t out_flags = static_cast<uint32_t>(message.flags) | static_cast<uint32_t>(flags & MSG_CMSG_CLOEXEC);
  if (control.truncated()) out_flags |= MSG_CTRUNC;
  if (header.name != 0) {
    const int name_room = static_cast<int>(header.name_length);
    if (name_room < 0) return Errno(EINVAL);
    TRY(task.write_bytes(header.name, &message.from.storage, std::min<size_t>(message.from.length, static_cast<size_t>(name_room))));
    TRY(task.write(UserPtr<uint32_t>(at.address() + offsetof(MessageHeader, name_length)), static_cast<uint32_t>(message.from.length)));
  }
  if (room > 0) TRY(task.write_bytes(header.control, control.bytes().data(), control.bytes().size()));
  TRY(task.write(UserPtr<uint64_t>(at.address() + offsetof(MessageHeader, control_length)), static_cast<uint64_t>(control.bytes().size())));
  TRY(task.write(UserPtr<uint32_t>(at.address() + offsetof(MessageHeader, flags)), out_flags));
  return static_cast<long>(message.length);
}

Result<long> sys_recvmsg(Task& task, Fd fd, UserPtr<MessageHeader> at, int flags) {
  const auto socket = TRY(socket_of(task, fd));
  return receive_message(task, *socket, at, flags);
}

Result<long> sys_recvfrom(Task& task, Fd fd, UserPtr<void> to, uint64_t size, int flags, UserPtr<void> address, UserPtr<int> length) {
  const auto socket = TRY(socket_of(task, fd));
  IoBuffer data = task.buffer(to.address(), size);
  IncomingMessage message;
  message.flags = flags;
  TRY(socket->receive(task, data, message));
  release_files(std::move(message.files));
  if (address) TRY(write_address(task, message.from, address.address(), length));
  return static_cast<long>(message.length);
}

Result<long> sys_recvmmsg(Task& task, Fd fd, UserPtr<ManyHeader> at, unsigned count, int flags, UserPtr<timespec> timeout) {
  const auto socket = TRY(socket_of(task, fd));
  Deadline deadline = Deadline::never();
  if (timeout) deadline = Deadline::after(TRY(nanoseconds_of(TRY(task.read(timeout)))));
  count = std::min(count, 1024U);
  unsigned done = 0;
  for (; done < count; ++done) {
    const int more = done > 0 && (flags & MSG_WAITFORONE) != 0 ? MSG_DONTWAIT : 0;
    const Result<long> got =
        receive_message(task, *socket, UserPtr<MessageHeader>((at + done).address()), (flags & ~MSG_WAITFORONE) | more);
    if (!got) {
      if (done > 0) break;
      return got.error();
    }
    TRY(task.write(UserPtr<uint32_t>((at + done).address() + offsetof(ManyHeader, length)), static_cast<uint32_t>(*got)));
    // The time is looked at after each message only (recvmmsg(2), BUGS).
    if (!deadline.is_never() && deadline.left() == 0) {
      ++done;
      break;
    }
  }
  if (timeout) TRY(task.write(timeout, timespec_of(deadline.left())));
  return static_cast<long>(done);
}

}  // namespace

std::span<const SyscallRow> socket_syscalls() {
  static const SyscallRow rows[] = {
      SYSCALL(socket, 41, Partial, "Unix, IPv4, IPv6, packet, netlink route, sock_diag and (silent) uevents"),
      SYSCALL(connect, 42, Full, ""),
      SYSCALL(accept, 43, Full, ""),
      SYSCALL(sendto, 44, Full, ""),
      SYSCALL(recvfrom, 45, Full, ""),
      SYSCALL(sendmsg, 46, Partial, "no MSG_ZEROCOPY"),
      SYSCALL(recvmsg, 47, Full, ""),
      SYSCALL(shutdown, 48, Full, ""),
      SYSCALL(bind, 49, Full, ""),
      SYSCALL(listen, 50, Full, ""),
      SYSCALL(getsockname, 51, Full, ""),
      SYSCALL(getpeername, 52, Full, ""),
      SYSCALL(socketpair, 53, Full, ""),
      SYSCALL(setsockopt, 54, Partial, "the options of net/host_options.cc"),
      SYSCALL(getsockopt, 55, Partial, "the options of net/host_options.cc"),
      SYSCALL(accept4, 288, Full, ""),
      SYSCALL(recvmmsg, 299, Full, ""),
      SYSCALL(sendmmsg, 307, Full, ""),
  };
  return rows;
}

}  // namespace caisson::kernel
