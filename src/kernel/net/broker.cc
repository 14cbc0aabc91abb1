#include "kernel/net/broker.h"

#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <mutex>

#include "kernel/klog.h"
#include "kernel/net/host_options.h"
#include "kernel/net/netlink_requests.h"
#include "kernel/platform/host_calls.h"
#include "kernel/platform/host_rows.h"

namespace caisson::kernel {
namespace {

constexpr int kMostIpProtocol = 255, kMostEtherType = 0xffff;
constexpr uint64_t kRaw = 1ULL << CAP_NET_RAW, kLowPorts = 1ULL << CAP_NET_BIND_SERVICE, kAdmin = 1ULL << CAP_NET_ADMIN;
constexpr BrokeredSocket kSockets[] = {
    {AF_INET, SOCK_RAW, kMostIpProtocol, "AF_INET, SOCK_RAW"},
    {AF_INET6, SOCK_RAW, kMostIpProtocol, "AF_INET6, SOCK_RAW"},
    {AF_PACKET, SOCK_RAW, kMostEtherType, "AF_PACKET, SOCK_RAW"},
    {AF_PACKET, SOCK_DGRAM, kMostEtherType, "AF_PACKET, SOCK_DGRAM"},
};
constexpr BrokeredOption kOptions[] = {
    {SOL_SOCKET, SO_SNDBUFFORCE}, {SOL_SOCKET, SO_RCVBUFFORCE}, {SOL_SOCKET, SO_MARK},
    {SOL_SOCKET, SO_PRIORITY},    {IPPROTO_IP, IP_TRANSPARENT},
};
// Between the request and the answer lies one call, but a change of the network may wait for all others on the node.
constexpr timeval kPatience{30, 0};

enum class Operation : int32_t { Open, Bind, Send, Ioctl, Option };
struct Request {
  Operation operation;
  int32_t family, type, protocol;  // Open
  uint32_t length;                 // Bind: of the address. All but Open come with the socket, Send with so many bytes behind this
  sockaddr_in6 address;
  uint32_t command;  // Ioctl
  char argument[sizeof(ifreq)];
  int32_t level, name, value;  // Option
};
struct Reply {
  int32_t error;  // 0: done; of Open the socket comes with it
  int32_t value;  // Send: how many bytes
};

std::mutex g_lock;
UniqueFd g_channel;                        // under g_lock
std::atomic<uint64_t> g_capabilities = 0;  // in the broker, its own

bool is_offered(const Request& request) {
  return std::any_of(std::begin(kSockets), std::end(kSockets), [&](const BrokeredSocket& each) {
    return request.family == each.family && request.type == each.type && request.protocol >= 0 && request.protocol <= each.most_protocol;
  });
}

bool may_open(const Request& request) {
  return request.operation == Operation::Open && (g_capabilities & kRaw) != 0 && is_offered(request);
}

// No other family: a Unix socket's name would be one of the node's.
bool may_bind(const Request& request) {
  if (request.operation != Operation::Bind || (g_capabilities & kLowPorts) == 0) return false;
  const auto family = request.address.sin6_family;
  return (family == AF_INET && request.length == sizeof(sockaddr_in)) || (family == AF_INET6 && request.length == sizeof(sockaddr_in6));
}

int socket_number(int fd, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  return getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}

bool may_change(const Request& request) {
  const HostIoctl* row = find_host_ioctl(request.command);
  return row != nullptr && row->administrator;
}
bool may_set(const Request& request) {
  return std::any_of(std::begin(kOptions), std::end(kOptions),
                     [&](const BrokeredOption& each) { return each.level == request.level && each.name == request.name; });
}

// One descriptor of a message, for UniqueFd or to be closed; -1: none.
int descriptor_of(msghdr& message) {
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS || header->cmsg_len < CMSG_LEN(sizeof(int)))
    return -1;
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

// False: nobody listens any more.
bool answer(int channel, int error, int fd, int value = 0) {
  Reply reply{error, value};
  iovec iov{&reply, sizeof reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (fd >= 0) attach_descriptors(message, control, {&fd, 1});
  return sendmsg(channel, &message, MSG_NOSIGNAL) >= 0;
}

bool open_for(int channel, const Request& request) {
  const int fd = socket(request.family, request.type | SOCK_NONBLOCK | SOCK_CLOEXEC, request.protocol);
  const int error = fd < 0 ? errno : 0;
  // What cannot be passed on (too many in flight) is told instead.
  const bool told = answer(channel, error, fd) || (fd >= 0 && answer(channel, errno, -1));
  if (fd >= 0) close(fd);
  return told;
}

bool bind_for(int channel, const Request& request, int fd) {
  const bool bound = bind(fd, reinterpret_cast<const sockaddr*>(&request.address), request.length) == 0;
  return answer(channel, bound ? 0 : errno, -1);
}

// To the host's kernel, by its address, whatever the socket is connected to. (For a message with an address the host does not ask whether
// who has opened the socket might, too.)
bool send_for(int channel, int fd, std::span<char> requests) {
  const int protocol = socket_number(fd, SO_DOMAIN) == AF_NETLINK ? socket_number(fd, SO_PROTOCOL) : -1;
  if (protocol != NETLINK_ROUTE && protocol != NETLINK_SOCK_DIAG) return answer(channel, EPERM, -1);
  disarm_netlink(protocol, requests);
  const sockaddr_nl kernel{AF_NETLINK, 0, 0, 0};
  const ssize_t sent =
      sendto(fd, requests.data(), requests.size(), MSG_DONTWAIT | MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel);
  return answer(channel, sent < 0 ? errno : 0, -1, static_cast<int>(sent));
}

// What else a guest may do that may configure the network.
bool administer_for(int channel, const Request& request, int fd, std::span<char> rest) {
  if ((g_capabilities & kAdmin) == 0) return answer(channel, EPERM, -1);
  if (request.operation == Operation::Send && request.length == rest.size()) return send_for(channel, fd, rest);
  const int family = socket_number(fd, SO_DOMAIN);
  if (!rest.empty() || family < 0 || family == AF_UNIX) return answer(channel, EPERM, -1);
  if (request.operation == Operation::Ioctl && may_change(request)) {
    Request copy = request;
    return answer(channel, ioctl(fd, copy.command, copy.argument) != 0 ? errno : 0, -1);
  }
  if (request.operation == Operation::Option && may_set(request))
    return answer(channel, setsockopt(fd, request.level, request.name, &request.value, sizeof request.value) != 0 ? errno : 0, -1);
  return answer(channel, EPERM, -1);
}

// Neither allocates nor locks: all that its filter leaves it.
[[noreturn]] void serve(int channel) {
  static char rest[kMostRequests];
  for (;;) {
    Request request;
    iovec iov[] = {{&request, sizeof request}, {rest, sizeof rest}};
    // Room for one descriptor: the host closes all others.
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message{};
    message.msg_iov = iov;
    message.msg_iovlen = std::size(iov);
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t size = recvmsg(channel, &message, MSG_TRUNC | MSG_CMSG_CLOEXEC);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) _exit(0);
    const int fd = descriptor_of(message);
    const bool whole = size >= static_cast<ssize_t>(sizeof request) && (message.msg_flags & MSG_TRUNC) == 0;
    const size_t more = whole ? static_cast<size_t>(size) - sizeof request : 0;
    bool told;
    if (whole && more == 0 && fd < 0 && may_open(request))
      told = open_for(channel, request);
    else if (whole && more == 0 && fd >= 0 && may_bind(request))
      told = bind_for(channel, request, fd);
    else if (whole && fd >= 0)
      told = administer_for(channel, request, fd, {rest, more});
    else
      told = answer(channel, EPERM, -1);
    if (fd >= 0) close(fd);
    if (!told) _exit(0);
  }
}

// What is left: the channel as descriptor 0, and nothing to look at.
Result<void> confine_broker(int channel, int root, pid_t kernel, uint64_t capabilities) {
  TRY(host_result(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)));
  if (kernel != 0) {
    TRY(host_result(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)));
    if (getppid() != kernel) return Errno(ESRCH);
  }
  prctl(PR_SET_NAME, "caisson-broker");
  if (root >= 0) {
    TRY(host_result(fchdir(root)));
    TRY(host_result(chroot(".")));
    TRY(host_result(chdir("/")));
  }
  g_capabilities = capabilities;
  TRY(limit_capabilities(capabilities, 0));
  TRY(host_result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));
  const std::vector<sock_filter> code = make_broker_filter(capabilities);
  const sock_fprog program{static_cast<unsigned short>(code.size()), const_cast<sock_filter*>(code.data())};
  TRY(host_result(dup2(channel, 0)));
  TRY(host_result(syscall(SYS_close_range, 1, ~0U, 0)));
  TRY(host_result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)));
  return {};
}

}  // namespace

std::span<const BrokeredSocket> brokered_sockets() { return kSockets; }
std::span<const BrokeredOption> brokered_options() { return kOptions; }

Result<void> start_network_broker(int root, uint64_t capabilities) {
  int ends[2];
  TRY(host_result(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)));
  UniqueFd ours(ends[0]), theirs(ends[1]);
  const pid_t kernel = getpid(), child = fork();
  if (child < 0) return host_errno();
  if (child == 0) {
    ours.reset();
    become_network_broker(std::move(theirs), root, kernel, capabilities);
  }
  set_network_broker(std::move(ours), capabilities);
  return {};
}

void become_network_broker(UniqueFd channel, int root, pid_t kernel, uint64_t capabilities) {
  if (Result<void> confined = confine_broker(channel.get(), root, kernel, capabilities); !confined) {
    klog(LogLevel::Error, "no raw sockets, no low ports, no changes of the network: the network broker cannot be confined: %s",
         strerrordesc_np(confined.error().value));
    _exit(1);
  }
  serve(0);
}

void set_network_broker(UniqueFd channel, uint64_t capabilities) {
  g_capabilities = capabilities;
  setsockopt(channel.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  setsockopt(channel.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  std::lock_guard guard(g_lock);
  g_channel = std::move(channel);
}

namespace {

struct Answer {
  int value;
  UniqueFd fd;
};

// With a socket, or -1, and bytes behind the request. The error of the reply, or what came with it. EIO: the channel is of no use any more.
Result<Answer> ask(int channel, Request& request, int with, std::span<const char> rest) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec parts[] = {{&request, sizeof request}, {const_cast<char*>(rest.data()), rest.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = std::size(parts);
  if (with >= 0) attach_descriptors(message, control, {&with, 1});
  if (sendmsg(channel, &message, MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof request + rest.size())) return Errno(EIO);
  Reply reply{EIO, 0};
  iovec iov{&reply, sizeof reply};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do size = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
  while (size < 0 && errno == EINTR);
  if (size != sizeof reply) return Errno(EIO);
  if (reply.error != 0) return Errno(reply.error);
  return Answer{reply.value, UniqueFd(descriptor_of(message))};
}

// The same, by the one channel; EPERM: there is none, or it has gone.
Result<Answer> ask(Request& request, int with, std::span<const char> rest = {}) {
  std::lock_guard guard(g_lock);
  if (!g_channel) return Errno(EPERM);
  Result<Answer> answered = ask(g_channel.get(), request, with, rest);
  if (answered || answered.error() != Errno(EIO)) return answered;
  klog(LogLevel::Error, "the network broker has gone: no more raw sockets, low ports and changes of the network");
  g_channel.reset();
  return Errno(EPERM);
}

}  // namespace

bool broker_administers() { return (g_capabilities & kAdmin) != 0; }

bool needs_administrator(int protocol, std::span<const char> requests) {
  constexpr uint16_t kDestroy = 21;  // SOCK_DESTROY
  nlmsghdr header;
  for (size_t at = 0; at + sizeof header <= requests.size();) {
    memcpy(&header, requests.data() + at, sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > requests.size() - at) return false;
    const bool asks_only = header.nlmsg_type < RTM_BASE || header.nlmsg_type % 4 == RTM_GETLINK % 4;
    if (protocol == NETLINK_ROUTE ? !asks_only : header.nlmsg_type == kDestroy) return true;
    at += NLMSG_ALIGN(header.nlmsg_len);
  }
  return false;
}

Result<size_t> send_requests_by_broker(int fd, std::span<const char> requests) {
  if (requests.size() > kMostRequests) return Errno(EMSGSIZE);
  Request request{};
  request.operation = Operation::Send;
  request.length = static_cast<uint32_t>(requests.size());
  const Answer answer = TRY(ask(request, fd, requests));
  return std::min(static_cast<size_t>(std::max(answer.value, 0)), requests.size());
}

Result<void> ioctl_by_broker(int fd, unsigned command, std::span<const char> argument) {
  Request request{};
  request.operation = Operation::Ioctl;
  request.command = command;
  if (argument.size() > sizeof request.argument) return Errno(EINVAL);
  memcpy(request.argument, argument.data(), argument.size());
  TRY(ask(request, fd));
  return {};
}

Result<void> set_option_by_broker(int fd, int level, int name, int value) {
  Request request{};
  request.operation = Operation::Option;
  request.level = level;
  request.name = name;
  request.value = value;
  TRY(ask(request, fd));
  return {};
}

Result<UniqueFd> open_brokered_socket(int family, int type, int protocol) {
  Request request{};
  request.operation = Operation::Open;
  request.family = family;
  request.type = type;
  request.protocol = protocol;
  if (!is_offered(request)) return Errno(EPROTONOSUPPORT);
  Answer answer = TRY(ask(request, -1));
  if (!answer.fd) return Errno(EMFILE);  // this process's descriptors are used up
  return std::move(answer.fd);
}

Result<void> bind_by_broker(int fd, const sockaddr* address, socklen_t length) {
  Request request{};
  request.operation = Operation::Bind;
  if (length > sizeof request.address) return Errno(EACCES);
  memcpy(&request.address, address, length);
  request.length = length;
  const Result<Answer> done = ask(request, fd);
  if (!done) return done.error() == Errno(EPERM) ? Errno(EACCES) : done.error();
  return {};
}

}  // namespace caisson::kernel
