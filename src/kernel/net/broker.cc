#include "kernel/net/broker.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
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
#include <utility>

#include "kernel/klog.h"
#include "kernel/net/host_options.h"
#include "kernel/net/netlink_requests.h"
#include "kernel/platform/host_calls.h"
#include "kernel/platform/host_rows.h"

namespace caisson::kernel {

enum class BrokerOperation : int32_t { Open, Bind, Send, Ioctl, Option, Setting };
struct BrokerRequest {
  BrokerOperation operation;
  int32_t family, type, protocol;  // Open
  // Bind: of the address. All but Open and Setting come with the socket, Send with so many bytes behind this, Setting with a path of so
  // many.
  uint32_t length;
  sockaddr_in6 address;
  uint32_t command;  // Ioctl
  char argument[sizeof(ifreq)];
  int32_t level, name, value;  // Option
};

namespace {

using Request = BrokerRequest;
using Operation = BrokerOperation;

constexpr int kMostIpProtocol = 255, kMostEtherType = 0xffff;
constexpr uint64_t kRaw = 1ULL << CAP_NET_RAW, kLowPorts = 1ULL << CAP_NET_BIND_SERVICE, kAdmin = 1ULL << CAP_NET_ADMIN;
constexpr uint32_t kTcp[] = {0, IPPROTO_TCP}, kUdp[] = {0, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_ICMP, IPPROTO_ICMPV6},
                   kNetlink[] = {NETLINK_ROUTE, NETLINK_SOCK_DIAG};
constexpr BrokeredSocket kSockets[] = {
    {AF_INET, SOCK_RAW, {}, kMostIpProtocol, "AF_INET, SOCK_RAW", ""},
    {AF_INET6, SOCK_RAW, {}, kMostIpProtocol, "AF_INET6, SOCK_RAW", ""},
    {AF_PACKET, SOCK_RAW, {}, kMostEtherType, "AF_PACKET, SOCK_RAW", ""},
    {AF_PACKET, SOCK_DGRAM, {}, kMostEtherType, "AF_PACKET, SOCK_DGRAM", ""},
    // Of rooms only, from here on.
    {AF_INET, SOCK_STREAM, kTcp, 0, "AF_INET, SOCK_STREAM", "TCP"},
    {AF_INET, SOCK_DGRAM, kUdp, 0, "AF_INET, SOCK_DGRAM", "UDP, UDP-Lite, ping"},
    {AF_INET6, SOCK_STREAM, kTcp, 0, "AF_INET6, SOCK_STREAM", "TCP"},
    {AF_INET6, SOCK_DGRAM, kUdp, 0, "AF_INET6, SOCK_DGRAM", "UDP, UDP-Lite, ping"},
    {AF_NETLINK, SOCK_RAW, kNetlink, 0, "AF_NETLINK, SOCK_RAW", "routes and socket lists"},
    {AF_NETLINK, SOCK_DGRAM, kNetlink, 0, "AF_NETLINK, SOCK_DGRAM", "routes and socket lists"},
};
constexpr size_t kOfBrokers = 4;
constexpr BrokeredOption kOptions[] = {
    {SOL_SOCKET, SO_SNDBUFFORCE}, {SOL_SOCKET, SO_RCVBUFFORCE}, {SOL_SOCKET, SO_MARK},
    {SOL_SOCKET, SO_PRIORITY},    {IPPROTO_IP, IP_TRANSPARENT},
};
// Between the request and the answer lies one call, but a change of the network may wait for all others on the node.
constexpr timeval kPatience{30, 0};

struct Reply {
  int32_t error;  // 0: done; of Open the socket comes with it
  int32_t value;  // Send: how many bytes
};

// Of the broker, or room, that this process is.
uint64_t g_capabilities = 0;
bool g_room = false;

bool is_offered(const Request& request, bool room) {
  const std::span<const BrokeredSocket> all = room ? room_sockets() : brokered_sockets();
  return std::any_of(all.begin(), all.end(), [&](const BrokeredSocket& each) {
    if (request.family != each.family || request.type != each.type || request.protocol < 0) return false;
    if (each.protocols.empty()) return request.protocol <= each.most_protocol;
    return std::find(each.protocols.begin(), each.protocols.end(), static_cast<uint32_t>(request.protocol)) != each.protocols.end();
  });
}

bool may_open(const Request& request) {
  return request.operation == Operation::Open && (g_capabilities & kRaw) != 0 && is_offered(request, g_room);
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
  return row != nullptr && row->administrator && (!g_room || is_for_rooms(request.command));
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

// A path of names, none of which leads up.
bool leads_down(std::string_view path) {
  return !path.empty() && path[0] != '/' && path != ".." && !path.starts_with("../") && !path.ends_with("/..") &&
         path.find("/../") == path.npos && path.find('\0') == path.npos;
}

// What it reads is that of who opens it: of the room's network.
bool open_setting_for(int channel, std::span<char> path) {
  char name[256];
  if (path.size() >= sizeof name || !leads_down({path.data(), path.size()})) return answer(channel, ENOENT, -1);
  memcpy(name, path.data(), path.size());
  name[path.size()] = '\0';
  const int fd = openat(kSettingsFd, name, kSettingFlags);
  const bool told = answer(channel, fd < 0 ? errno : 0, fd);
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
  disarm_netlink(protocol, requests, g_room ? NetlinkScope::Room : NetlinkScope::Pod);
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
    else if (whole && fd < 0 && g_room && request.operation == Operation::Setting && request.length == more)
      told = open_setting_for(channel, {rest, more});
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

std::span<const BrokeredSocket> brokered_sockets() { return std::span(kSockets).first(kOfBrokers); }
std::span<const BrokeredSocket> room_sockets() { return kSockets; }
std::span<const BrokeredOption> brokered_options() { return kOptions; }
bool is_for_rooms(unsigned ioctl) {
  constexpr unsigned kOfBridges[] = {SIOCBRADDBR, SIOCBRDELBR, SIOCBRADDIF, SIOCBRDELIF};
  return std::find(std::begin(kOfBridges), std::end(kOfBridges), ioctl) == std::end(kOfBridges);
}

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
  pod_broker().set(std::move(ours), capabilities);
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

void serve_as_room() {
  g_capabilities = kRaw | kLowPorts | kAdmin;
  g_room = true;
  // It is there.
  if (!answer(0, 0, -1)) _exit(0);
  serve(0);
}

NetworkBroker& pod_broker() {
  static auto* const one = new NetworkBroker;
  return *one;
}

void NetworkBroker::set(UniqueFd channel, uint64_t capabilities) {
  capabilities_ = capabilities;
  setsockopt(channel.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  setsockopt(channel.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  std::lock_guard guard(lock_);
  channel_ = std::move(channel);
}

void NetworkBroker::set_room(UniqueFd channel) {
  room_ = true;
  set(std::move(channel), kRaw | kLowPorts | kAdmin);
}

struct NetworkBroker::Answer {
  int value;
  UniqueFd fd;
};

namespace {

// What an answer says, and what came with it. EIO: the channel is of no use any more.
Result<std::pair<Reply, UniqueFd>> take_answer(int channel) {
  Reply reply{EIO, 0};
  iovec iov{&reply, sizeof reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do size = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
  while (size < 0 && errno == EINTR);
  if (size != sizeof reply) return Errno(EIO);
  return std::pair(reply, UniqueFd(descriptor_of(message)));
}

// With a socket, or -1, and bytes behind the request.
Result<std::pair<Reply, UniqueFd>> exchange(int channel, Request& request, int with, std::span<const char> rest) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec parts[] = {{&request, sizeof request}, {const_cast<char*>(rest.data()), rest.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = std::size(parts);
  if (with >= 0) attach_descriptors(message, control, {&with, 1});
  if (sendmsg(channel, &message, MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof request + rest.size())) return Errno(EIO);
  return take_answer(channel);
}

}  // namespace

// The error of the reply, or what came with it. EPERM: there is no broker, or it has gone.
Result<NetworkBroker::Answer> NetworkBroker::ask(Request& request, int with, std::span<const char> rest) {
  std::lock_guard guard(lock_);
  if (!channel_) return Errno(EPERM);
  Result<std::pair<Reply, UniqueFd>> answered = exchange(channel_.get(), request, with, rest);
  if (!answered) {
    klog(LogLevel::Error, room_ ? "the room of a network namespace has gone: no more sockets and changes of it"
                                : "the network broker has gone: no more raw sockets, low ports and changes of the network");
    channel_.reset();
    return Errno(EPERM);
  }
  if (answered->first.error != 0) return Errno(answered->first.error);
  return Answer{answered->first.value, std::move(answered->second)};
}

bool NetworkBroker::administers() const { return (capabilities_ & kAdmin) != 0; }

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

Result<size_t> NetworkBroker::send(int fd, std::span<const char> requests) {
  if (requests.size() > kMostRequests) return Errno(EMSGSIZE);
  Request request{};
  request.operation = Operation::Send;
  request.length = static_cast<uint32_t>(requests.size());
  const Answer answer = TRY(ask(request, fd, requests));
  return std::min(static_cast<size_t>(std::max(answer.value, 0)), requests.size());
}

Result<void> NetworkBroker::ioctl(int fd, unsigned command, std::span<const char> argument) {
  Request request{};
  request.operation = Operation::Ioctl;
  request.command = command;
  if (argument.size() > sizeof request.argument) return Errno(EINVAL);
  memcpy(request.argument, argument.data(), argument.size());
  TRY(ask(request, fd));
  return {};
}

Result<void> NetworkBroker::set_option(int fd, int level, int name, int value) {
  Request request{};
  request.operation = Operation::Option;
  request.level = level;
  request.name = name;
  request.value = value;
  TRY(ask(request, fd));
  return {};
}

Result<UniqueFd> NetworkBroker::open(int family, int type, int protocol) {
  Request request{};
  request.operation = Operation::Open;
  request.family = family;
  request.type = type;
  request.protocol = protocol;
  if (!is_offered(request, room_)) return Errno(EPROTONOSUPPORT);
  Answer answer = TRY(ask(request, -1));
  if (!answer.fd) return Errno(EMFILE);  // this process's descriptors are used up
  return std::move(answer.fd);
}

Result<void> NetworkBroker::bind(int fd, const sockaddr* address, socklen_t length) {
  Request request{};
  request.operation = Operation::Bind;
  if (length > sizeof request.address) return Errno(EACCES);
  memcpy(&request.address, address, length);
  request.length = length;
  const Result<Answer> done = ask(request, fd);
  if (!done) return done.error() == Errno(EPERM) ? Errno(EACCES) : done.error();
  return {};
}

Result<UniqueFd> NetworkBroker::open_setting(std::string_view path) {
  if (path.empty()) path = ".";
  Request request{};
  request.operation = Operation::Setting;
  request.length = static_cast<uint32_t>(path.size());
  Answer answer = TRY(ask(request, -1, path));
  if (!answer.fd) return Errno(EMFILE);
  return std::move(answer.fd);
}

}  // namespace caisson::kernel
