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

struct Request {
  int32_t family, type, protocol;
};
struct Reply {
  int32_t error;  // 0: the socket comes with it
};

std::mutex g_lock;
UniqueFd g_channel;  // under g_lock

bool may_open(const Request& request) {
  for (const BrokeredSocket& each : kSockets)
    if (request.family == each.family && request.type == each.type && request.protocol >= 0 && request.protocol <= each.most_protocol)
      return true;
  return false;
}

// False: nobody listens any more.
bool answer(int channel, int error, int fd) {
  Reply reply{error};
  iovec iov{&reply, sizeof reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  return sendmsg(channel, &message, MSG_NOSIGNAL) >= 0;
}

// Neither allocates nor locks: all that its filter leaves it.
[[noreturn]] void serve(int channel) {
  for (;;) {
    Request request;
    // Descriptors that come along are not taken: there is no room for them.
    const ssize_t size = recv(channel, &request, sizeof request, MSG_TRUNC);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) _exit(0);
    if (size != sizeof request || !may_open(request)) {
      if (!answer(channel, EPERM, -1)) _exit(0);
      continue;
    }
    const int fd = socket(request.family, request.type | SOCK_NONBLOCK | SOCK_CLOEXEC, request.protocol);
    const int error = fd < 0 ? errno : 0;
    // What cannot be passed on (too many in flight) is told instead.
    if (!answer(channel, error, fd) && (fd < 0 || !answer(channel, errno, -1))) _exit(0);
    if (fd >= 0) close(fd);
  }
}

Result<void> keep_raw_sockets_alone() {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability)
    if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1) TRY(host_result(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)));
  TRY(host_result(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)));
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  TRY(host_result(syscall(SYS_capget, &header, data)));
  const uint32_t raw = data[0].permitted & 1U << CAP_NET_RAW;
  data[0] = {raw, raw, 0};
  data[1] = {};
  TRY(host_result(syscall(SYS_capset, &header, data)));
  return {};
}

// What is left: the channel as descriptor 0, and nothing to look at.
Result<void> confine_broker(int channel, int root, pid_t kernel) {
  TRY(host_result(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)));
  TRY(host_result(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)));
  if (getppid() != kernel) return Errno(ESRCH);
  prctl(PR_SET_NAME, "caisson-broker");
  if (root >= 0) {
    TRY(host_result(fchdir(root)));
    TRY(host_result(chroot(".")));
    TRY(host_result(chdir("/")));
  }
  TRY(keep_raw_sockets_alone());
  TRY(host_result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));
  const std::vector<sock_filter> code = make_broker_filter();
  const sock_fprog program{static_cast<unsigned short>(code.size()), const_cast<sock_filter*>(code.data())};
  TRY(host_result(dup2(channel, 0)));
  TRY(host_result(syscall(SYS_close_range, 1, ~0U, 0)));
  TRY(host_result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)));
  return {};
}

}  // namespace

std::span<const BrokeredSocket> brokered_sockets() { return kSockets; }

Result<void> start_network_broker(int root) {
  int ends[2];
  TRY(host_result(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)));
  UniqueFd ours(ends[0]), theirs(ends[1]);
  const pid_t kernel = getpid(), child = fork();
  if (child < 0) return host_errno();
  if (child == 0) {
    ours.reset();
    become_network_broker(std::move(theirs), root, kernel);
  }
  set_network_broker(std::move(ours));
  return {};
}

void become_network_broker(UniqueFd channel, int root, pid_t kernel) {
  if (Result<void> confined = confine_broker(channel.get(), root, kernel); !confined) {
    klog(LogLevel::Error, "no raw sockets: the network broker cannot be confined: %s", strerrordesc_np(confined.error().value));
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

// EIO: the channel is of no use any more.
Result<UniqueFd> ask(int channel, const Request& request) {
  if (::send(channel, &request, sizeof request, MSG_NOSIGNAL) != sizeof request) return Errno(EIO);
  Reply reply{EIO};
  iovec iov{&reply, sizeof reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do size = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
  while (size < 0 && errno == EINTR);
  if (size != sizeof reply) return Errno(EIO);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr) return Errno(reply.error != 0 ? reply.error : EMFILE);  // this process's descriptors are used up
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return UniqueFd(fd);
}

}  // namespace

Result<UniqueFd> open_brokered_socket(int family, int type, int protocol) {
  const Request request{family, type, protocol};
  if (!may_open(request)) return Errno(EPROTONOSUPPORT);
  std::lock_guard guard(g_lock);
  if (!g_channel) return Errno(EPERM);
  Result<UniqueFd> opened = ask(g_channel.get(), request);
  if (!opened && opened.error() == Errno(EIO)) {
    klog(LogLevel::Error, "the network broker has gone: no more raw sockets");
    g_channel.reset();
    return Errno(EPERM);
  }
  return opened;
}

}  // namespace caisson::kernel
