#include "kernel/platform/host_calls.h"

#include <linux/futex.h>
#include <string.h>
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

Result<void> send_descriptors(int socket, std::span<const int> fds) {
  char byte = 0;
  iovec iov{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 32)] = {};
  if (fds.size() > 32) return Errno(EINVAL);
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
  memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
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

}  // namespace caisson::kernel
