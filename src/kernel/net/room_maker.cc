#include "kernel/net/room_maker.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <string_view>
#include <utility>

#include "kernel/klog.h"
#include "kernel/net/broker.h"
#include "kernel/platform/host_calls.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/host_rows.h"

namespace caisson::kernel {
namespace {

// Nobody's, so that no process that is root, which the kernel process may be, owns the user namespace.
constexpr uid_t kNobody = 65534;
// Twice what the kernel allows (kMostNetworkNamespaces): the host takes its time to free one.
constexpr const char* kMostNetworks = "256";
constexpr timeval kPatience{30, 0};

struct MakerReply {
  int32_t error;
  int32_t pid;  // of the room
};

std::mutex g_lock;
UniqueFd g_channel;                // under g_lock
bool g_awaited = false;            // the same
std::atomic<int> g_error = EPERM;  // why there is no maker
std::atomic<bool> g_has_made = false;
std::atomic_flag g_told = ATOMIC_FLAG_INIT;

// ---- The maker, and what becomes of its children

Result<void> write_file(int folder, const char* path, std::string_view text) {
  const UniqueFd file(openat(folder, path, O_WRONLY | O_CLOEXEC));
  if (!file) return host_errno();
  TRY(host_result(write(file.get(), text.data(), text.size())));
  return {};
}

// A user namespace that belongs to nobody, and is nobody in it.
Result<void> enter_nobodys_namespace(int proc) {
  (void)syscall(SYS_setgroups, 0, nullptr);  // which a user namespace may forbid: groups open nothing to it
  TRY(host_result(syscall(SYS_setresgid, kNobody, kNobody, kNobody)));
  TRY(host_result(syscall(SYS_setresuid, kNobody, kNobody, kNobody)));
  TRY(host_result(unshare(CLONE_NEWUSER)));
  // Who has changed its ids cannot write its own maps else. No other process runs by now.
  TRY(host_result(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)));
  TRY(write_file(proc, "self/setgroups", "deny"));
  char map[32];
  snprintf(map, sizeof map, "%u %u 1", kNobody, kNobody);
  TRY(write_file(proc, "self/uid_map", map));
  TRY(write_file(proc, "self/gid_map", map));
  TRY(write_file(proc, "sys/user/max_net_namespaces", kMostNetworks));
  TRY(write_file(proc, "sys/user/max_user_namespaces", "0"));
  return {};
}

Result<void> set_filter(const std::vector<sock_filter>& code) {
  const sock_fprog program{static_cast<unsigned short>(code.size()), const_cast<sock_filter*>(code.data())};
  TRY(host_result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)));
  return {};
}

// What is left: the channel as descriptor 0, the settings of networks as descriptor 1, and nothing to look at.
Result<void> confine_maker(int channel, int proc, pid_t kernel) {
  constexpr int kAside = 64;
  const UniqueFd settings = TRY(open_network_settings_folder());
  TRY(enter_nobodys_namespace(proc));
  TRY(host_result(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)));
  TRY(host_result(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)));
  if (getppid() != kernel) return Errno(ESRCH);
  prctl(PR_SET_NAME, "caisson-rooms");
  TRY(limit_capabilities(1ULL << CAP_SYS_ADMIN | room_capability_bits(), 0));
  TRY(host_result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));
  // Nobody waits for rooms.
  if (signal(SIGCHLD, SIG_IGN) == SIG_ERR) return host_errno();
  // Neither may be closed by the other's coming.
  const UniqueFd first(fcntl(channel, F_DUPFD_CLOEXEC, kAside)), second(fcntl(settings.get(), F_DUPFD_CLOEXEC, kAside));
  TRY(host_result(dup2(first.get(), 0)));
  TRY(host_result(dup2(second.get(), kSettingsFd)));
  TRY(host_result(syscall(SYS_close_range, kSettingsFd + 1, ~0U, 0)));
  return {};
}

// Nothing allocates: the filter has been made before.
[[noreturn]] void become_room(int channel, const std::vector<sock_filter>& filter) {
  prctl(PR_SET_NAME, "caisson-room");
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  data[0].permitted = data[0].effective = static_cast<uint32_t>(room_capability_bits());
  if (syscall(SYS_capset, &header, data) != 0 || syscall(SYS_dup2, channel, 0) < 0 ||
      syscall(SYS_close_range, kSettingsFd + 1, ~0U, 0) != 0 || !set_filter(filter))
    _exit(1);
  serve_as_room();
}

// One message: the channel of a room. False: nobody asks any more.
bool make_one(const std::vector<sock_filter>& filter) {
  char byte;
  iovec iov{&byte, sizeof byte};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t size = recvmsg(0, &message, MSG_CMSG_CLOEXEC);
  if (size < 0 && errno == EINTR) return true;
  if (size <= 0) return false;
  MakerReply reply{EINVAL, 0};
  if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr && header->cmsg_len == CMSG_LEN(sizeof(int))) {
    int channel;
    memcpy(&channel, CMSG_DATA(header), sizeof channel);
    const long pid = syscall(SYS_clone, kRoomCloneFlags, nullptr, nullptr, nullptr, nullptr);
    if (pid == 0) become_room(channel, filter);
    reply = {pid < 0 ? errno : 0, static_cast<int32_t>(pid)};
    close(channel);
  }
  iov = {&reply, sizeof reply};
  message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  return sendmsg(0, &message, MSG_NOSIGNAL) >= 0;
}

[[noreturn]] void become_maker(const UniqueFd& channel, int proc, pid_t kernel) {
  const std::vector<sock_filter> of_rooms = make_room_filter(), of_maker = make_room_maker_filter();
  const Result<void> confined = confine_maker(channel.get(), proc, kernel);
  MakerReply reply{confined ? 0 : confined.error().value, 0};
  // Where it could not be confined the channel is where it was.
  const int told = confined ? 0 : channel.get();
  if (confined) {
    if (const Result<void> filtered = set_filter(of_maker); !filtered) reply.error = filtered.error().value;
  }
  iovec iov{&reply, sizeof reply};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (sendmsg(told, &message, MSG_NOSIGNAL) < 0 || reply.error != 0) _exit(1);
  while (make_one(of_rooms)) continue;
  _exit(0);
}

// ---- The kernel process

Result<MakerReply> take_reply(int channel) {
  MakerReply reply{};
  ssize_t size;
  do size = recv(channel, &reply, sizeof reply, 0);
  while (size < 0 && errno == EINTR);
  if (size != sizeof reply) return Errno(EIO);
  return reply;
}

Result<UniqueFd> start_maker(int proc) {
  int ends[2];
  TRY(host_result(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)));
  UniqueFd ours(ends[0]), theirs(ends[1]);
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) setsockopt(ours.get(), SOL_SOCKET, option, &kPatience, sizeof kPatience);
  const pid_t kernel = getpid(), child = fork();
  if (child < 0) return host_errno();
  if (child == 0) {
    ours.reset();
    become_maker(theirs, proc, kernel);
  }
  return ours;
}

void tell_once(int error) {
  if (g_told.test_and_set()) return;
  klog(LogLevel::Warning, "a guest asked for a network namespace, and this node gives none: %s", strerrordesc_np(error));
}

}  // namespace

void start_room_maker(int proc) {
  Result<UniqueFd> channel = start_maker(proc);
  if (!channel) {
    g_error = channel.error().value;
    return;
  }
  std::lock_guard guard(g_lock);
  g_channel = *std::move(channel);
}

void await_room_maker() {
  std::lock_guard guard(g_lock);
  if (!g_channel || std::exchange(g_awaited, true)) return;
  const Result<MakerReply> ready = take_reply(g_channel.get());
  if (ready && ready->error == 0) return;
  g_error = ready ? ready->error : ready.error().value;
  g_channel.reset();
}

namespace {

// EPERM: there is none, or it has gone.
Result<MakerReply> ask_maker(int channel) {
  std::lock_guard guard(g_lock);
  if (g_channel) {
    TRY(send_descriptors(g_channel.get(), {&channel, 1}));
    const Result<MakerReply> reply = take_reply(g_channel.get());
    if (reply) return *reply;
    g_channel.reset();
    g_error = EIO;
  }
  tell_once(g_error);
  return Errno(EPERM);
}

}  // namespace

Result<Room> make_room() {
  constexpr int kTries = 100, kPause = 10;  // milliseconds
  int ends[2];
  TRY(host_result(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)));
  UniqueFd ours(ends[0]), theirs(ends[1]);
  MakerReply made = TRY(ask_maker(theirs.get()));
  // Who makes one after another may be ahead of the host, which frees them when it gets round to it. A node that allows none is not asked
  // again.
  for (int i = 0; made.error == ENOSPC && g_has_made.load() && i < kTries; ++i) {
    poll(nullptr, 0, kPause);
    made = TRY(ask_maker(theirs.get()));
  }
  theirs.reset();
  if (made.error == ENOSPC || made.error == EUSERS || made.error == EAGAIN || made.error == ENOMEM) return Errno(ENOSPC);
  // It says that it is there before it is asked anything. One that cannot begin has ended.
  int32_t there[2];
  setsockopt(ours.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  if (made.error != 0 || recv(ours.get(), there, sizeof there, 0) != sizeof there || there[0] != 0) {
    tell_once(made.error != 0 ? made.error : EIO);
    return Errno(EPERM);
  }
  Result<UniqueFd> folder = open_host_process(made.pid);
  if (!folder) return Errno(EPERM);
  g_has_made = true;
  return Room{std::move(ours), *std::move(folder)};
}

}  // namespace caisson::kernel
