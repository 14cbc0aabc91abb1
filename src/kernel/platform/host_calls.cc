#include "kernel/platform/host_calls.h"

#include <linux/capability.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>

namespace caisson::kernel {

void futex_wait(const uint32_t* word, uint32_t expected, const timespec* timeout) {
  syscall(SYS_futex, word, FUTEX_WAIT, expected, timeout, nullptr, 0);
}

void futex_wake(const uint32_t* word) { syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0); }

bool futex_wait_private(const uint32_t* word, uint32_t expected, int64_t deadline_ns) {
  timespec until{};
  if (deadline_ns >= 0) until = {deadline_ns / 1'000'000'000, deadline_ns % 1'000'000'000};
  const long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, deadline_ns >= 0 ? &until : nullptr,
                              nullptr, FUTEX_BITSET_MATCH_ANY);
  return !(result < 0 && errno == ETIMEDOUT);
}

void futex_wake_private(const uint32_t* word) { syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, nullptr, nullptr, 0); }

void attach_descriptors(msghdr& message, std::span<char> control, std::span<const int> fds) {
  if (fds.empty()) return;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size_bytes());
  memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
}

Result<void> send_descriptors(int socket, std::span<const int> fds) {
  char byte = 0;
  iovec iov{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 32)] = {};
  if (fds.size() > 32) return Errno(EINVAL);
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  attach_descriptors(message, control, fds);
  TRY(host_result(sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT)));
  return {};
}

Result<pid_t> receive_writer(int socket) {
  char bytes[8];
  iovec iov{bytes, sizeof bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  TRY(host_result(recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)));
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_CREDENTIALS) continue;
    ucred who;
    memcpy(&who, CMSG_DATA(header), sizeof who);
    if (who.pid > 0) return who.pid;
  }
  return Errno(ESRCH);
}

Result<void> limit_capabilities(uint64_t permitted, uint64_t bounding) {
  for (int capability = 0; capability < 64; ++capability) {
    const int present = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
    if (present < 0) break;
    if (present == 1 && (bounding >> capability & 1) == 0) TRY(host_result(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)));
  }
  TRY(host_result(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)));
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  TRY(host_result(syscall(SYS_capget, &header, data)));
  for (int i = 0; i < 2; ++i) {
    data[i].permitted &= static_cast<uint32_t>(permitted >> 32 * i);
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0;
  }
  TRY(host_result(syscall(SYS_capset, &header, data)));
  return {};
}

}  // namespace caisson::kernel
