#include "sandbox/local/exit_events.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

namespace caisson::sandbox::local {
namespace {

// Offsets in a message: netlink's header, the connector's, the event's.
constexpr uint32_t kEvent = NLMSG_HDRLEN + sizeof(cn_msg);
constexpr uint32_t kWhat = kEvent + offsetof(proc_event, what);
constexpr uint32_t kForkGroup = kEvent + offsetof(proc_event, event_data.fork.child_tgid);
constexpr uint32_t kExitGroup = kEvent + offsetof(proc_event, event_data.exit.process_tgid);
constexpr int kAnswerMilliseconds = 1000;

// Only new threads of that process, ends of its threads, and the answer to our request: everything else costs us nothing. Filters load in
// network byte order, events have the machine's.
Result<void> filter(int socket, pid_t pid) {
  const auto number = [](uint32_t value) { return htonl(value); };
  const auto group = static_cast<uint32_t>(pid);
  std::array<sock_filter, 10> program{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kWhat),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number(proc_event::PROC_EVENT_NONE), 6, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number(proc_event::PROC_EVENT_FORK), 0, 2),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kForkGroup),
      BPF_JUMP(BPF_JMP | BPF_JA, 2, 0, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number(proc_event::PROC_EVENT_EXIT), 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kExitGroup),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number(group), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, ~0U),
      BPF_STMT(BPF_RET | BPF_K, 0),
  }};
  const sock_fprog wanted{program.size(), program.data()};
  if (setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &wanted, sizeof wanted) != 0)
    return errno_error("cannot filter the events of processes");
  return {};
}

Result<void> ask_for_events(int socket) {
  struct alignas(NLMSG_ALIGNTO) {
    nlmsghdr header;
    char rest[sizeof(cn_msg) + sizeof(uint32_t)];
  } request{};
  static_assert(sizeof request >= NLMSG_LENGTH(sizeof(cn_msg) + sizeof(uint32_t)));
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof(cn_msg) + sizeof(uint32_t));
  request.header.nlmsg_type = NLMSG_DONE;
  cn_msg message{};
  message.id = {CN_IDX_PROC, CN_VAL_PROC};
  message.len = sizeof(uint32_t);
  const uint32_t listen = PROC_CN_MCAST_LISTEN;
  memcpy(request.rest, &message, sizeof message);
  memcpy(request.rest + sizeof message, &listen, sizeof listen);
  if (send(socket, &request, request.header.nlmsg_len, 0) < 0) return errno_error("cannot ask for the events of processes");
  // The answer is an event of no kind, with an errno value. Elsewhere than in the node's own namespaces there is none.
  pollfd poller{socket, POLLIN, 0};
  if (poll(&poller, 1, kAnswerMilliseconds) != 1) return make_error(ETIMEDOUT, "the kernel does not tell the events of processes here");
  char buffer[512];
  const ssize_t got = recv(socket, buffer, sizeof buffer, 0);
  proc_event event;
  if (got < static_cast<ssize_t>(kEvent + sizeof event))
    return make_error(EPROTO, "the kernel's answer about events of processes is short");
  memcpy(&event, buffer + kEvent, sizeof event);
  if (event.what != proc_event::PROC_EVENT_NONE || event.event_data.ack.err != 0)
    return make_error(EPERM, "the kernel does not tell us the events of processes");
  return {};
}

Result<long> count_threads(pid_t pid) {
  DIR* folder = opendir(fmt::format("/proc/{}/task", pid).c_str());
  if (folder == nullptr) return errno_error("cannot count the threads of process {}", pid);
  long count = 0;
  while (const dirent* entry = readdir(folder))
    if (entry->d_name[0] != '.') ++count;
  closedir(folder);
  return count;
}

}  // namespace

bool ExitEvents::supported() {
  static const bool supported = open(getpid()).ok();
  return supported;
}

Result<UniqueFd> ExitEvents::open(pid_t pid) {
  UniqueFd socket(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_CONNECTOR));
  if (!socket) return errno_error("cannot make a socket for the events of processes");
  TRY(filter(socket.get(), pid));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = CN_IDX_PROC;
  if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return errno_error("cannot listen to the events of processes");
  TRY(ask_for_events(socket.get()));
  return socket;
}

Result<ExitEvents> ExitEvents::listen(pid_t pid) {
  UniqueFd socket = TRY(open(pid));
  return ExitEvents(pid, std::move(socket), TRY(count_threads(pid)));
}

void ExitEvents::read() {
  for (;;) {
    char buffer[1024];
    sockaddr_nl from{};
    socklen_t size = sizeof from;
    const ssize_t got = recvfrom(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&from), &size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == ENOBUFS) continue;  // some are lost: best_guess()
    if (got < 0) return;
    if (from.nl_pid == 0) take(buffer, static_cast<size_t>(got));  // from the kernel, nobody else
  }
}

void ExitEvents::take(const char* bytes, size_t size) {
  proc_event event;
  if (size < kEvent + sizeof event) return;
  memcpy(&event, bytes + kEvent, sizeof event);
  // A thread is a new task of the same group; another group's first task is a process.
  if (event.what == proc_event::PROC_EVENT_FORK && event.event_data.fork.child_tgid == pid_) ++threads_;
  if (event.what == proc_event::PROC_EVENT_EXIT && event.event_data.exit.process_tgid == pid_) {
    --threads_;
    last_ = static_cast<int>(event.event_data.exit.exit_code);
  }
}

}  // namespace caisson::sandbox::local
