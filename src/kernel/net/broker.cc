#include "kernel/net/broker.h"

#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <mutex>

#include "kernel/klog.h"
#include "kernel/platform/host_calls.h"
#include "kernel/platform/host_rows.h"

namespace caisson::kernel {
namespace {

constexpr int kMostIpProtocol = 255, kMostEtherType = 0xffff;
constexpr BrokeredSocket kSockets[] = {
    {AF_INET, SOCK_RAW, kMostIpProtocol, "AF_INET, SOCK_RAW"},
    {AF_INET6, SOCK_RAW, kMostIpProtocol, "AF_INET6, SOCK_RAW"},
    {AF_PACKET, SOCK_RAW, kMostEtherType, "AF_PACKET, SOCK_RAW"},
    {AF_PACKET, SOCK_DGRAM, kMostEtherType, "AF_PACKET, SOCK_DGRAM"},
};
// Between the request and the answer lies one socket(2).
constexpr timeval kPatience{5, 0};

enum class Operation : int32_t { Open, Bind };
struct Request {
  Operation operation;
  int32_t family, type, protocol;  // Open
  uint32_t length;                 // Bind, with the socket
  sockaddr_in6 address;
};
struct Reply {
  int32_t error;  // 0: done; of Open the socket comes with it
};

std::mutex g_lock;
UniqueFd g_channel;  // under g_lock

bool may_open(const Request& request) {
  if (request.operation != Operation::Open) return false;
  for (const BrokeredSocket& each : kSockets)
    if (request.family == each.family && request.type == each.type && request.protocol >= 0 && request.protocol <= each.most_protocol)
      return true;
  return false;
}

// No other family: a Unix socket's name would be one of the node's.
bool may_bind(const Request& request) {
  if (request.operation != Operation::Bind) return false;
  const auto family = request.address.sin6_family;
  return (family == AF_INET && request.length == sizeof(sockaddr_in)) || (family == AF_INET6 && request.length == sizeof(sockaddr_in6));
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
bool answer(int channel, int error, int fd) {
  Reply reply{error};
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

// Neither allocates nor locks: all that its filter leaves it.
[[noreturn]] void serve(int channel) {
  for (;;) {
    Request request;
    iovec iov{&request, sizeof request};
    // Room for one descriptor: the host closes all others.
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message{};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t size = recvmsg(channel, &message, MSG_TRUNC | MSG_CMSG_CLOEXEC);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) _exit(0);
    const int fd = descriptor_of(message);
    bool told;
    if (size == sizeof request && fd < 0 && may_open(request))
      told = open_for(channel, request);
    else if (size == sizeof request && fd >= 0 && may_bind(request))
      told = bind_for(channel, request, fd);
    else
      told = answer(channel, EPERM, -1);
    if (fd >= 0) close(fd);
    if (!told) _exit(0);
  }
}

// What is left: the channel as descriptor 0, and nothing to look at.
Result<void> confine_broker(int channel, int root, pid_t kernel, uint64_t capabilities) {
  TRY(host_result(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)));
  TRY(host_result(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)));
  if (getppid() != kernel) return Errno(ESRCH);
  prctl(PR_SET_NAME, "caisson-broker");
  if (root >= 0) {
    TRY(host_result(fchdir(root)));
    TRY(host_result(chroot(".")));
    TRY(host_result(chdir("/")));
  }
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
  set_network_broker(std::move(ours));
  return {};
}

void become_network_broker(UniqueFd channel, int root, pid_t kernel, uint64_t capabilities) {
  if (Result<void> confined = confine_broker(channel.get(), root, kernel, capabilities); !confined) {
    klog(LogLevel::Error, "no raw sockets and no low ports: the network broker cannot be confined: %s",
         strerrordesc_np(confined.error().value));
    _exit(1);
  }
  serve(0);
}

void set_network_broker(UniqueFd channel) {
  setsockopt(channel.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  setsockopt(channel.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  std::lock_guard guard(g_lock);
  g_channel = std::move(channel);
}

namespace {

// With a socket, or -1. The error of the reply, or none and what came with it. EIO: the channel is of no use any more.
Result<UniqueFd> ask(int channel, Request& request, int with) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec iov{&request, sizeof request};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (with >= 0) attach_descriptors(message, control, {&with, 1});
  if (sendmsg(channel, &message, MSG_NOSIGNAL) != sizeof request) return Errno(EIO);
  Reply reply{EIO};
  iov = {&reply, sizeof reply};
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do size = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
  while (size < 0 && errno == EINTR);
  if (size != sizeof reply) return Errno(EIO);
  if (reply.error != 0) return Errno(reply.error);
  return UniqueFd(descriptor_of(message));
}

// The same, by the one channel; EPERM: there is none, or it has gone.
Result<UniqueFd> ask(Request& request, int with) {
  std::lock_guard guard(g_lock);
  if (!g_channel) return Errno(EPERM);
  Result<UniqueFd> answered = ask(g_channel.get(), request, with);
  if (answered || answered.error() != Errno(EIO)) return answered;
  klog(LogLevel::Error, "the network broker has gone: no more raw sockets and low ports");
  g_channel.reset();
  return Errno(EPERM);
}

}  // namespace

Result<UniqueFd> open_brokered_socket(int family, int type, int protocol) {
  Request request{};
  request.operation = Operation::Open;
  request.family = family;
  request.type = type;
  request.protocol = protocol;
  if (!may_open(request)) return Errno(EPROTONOSUPPORT);
  UniqueFd opened = TRY(ask(request, -1));
  if (!opened) return Errno(EMFILE);  // this process's descriptors are used up
  return opened;
}

Result<void> bind_by_broker(int fd, const sockaddr* address, socklen_t length) {
  Request request{};
  request.operation = Operation::Bind;
  if (length > sizeof request.address) return Errno(EACCES);
  memcpy(&request.address, address, length);
  request.length = length;
  const Result<UniqueFd> done = ask(request, fd);
  if (!done) return done.error() == Errno(EPERM) ? Errno(EACCES) : done.error();
  return {};
}

}  // namespace caisson::kernel
