#include "kernel/control/messages.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/platform/host_calls.h"

namespace caisson::kernel {
namespace {

constexpr off_t kMostDescription = 16 << 20;

struct Wire {
  uint32_t kind;
  int32_t number;
};

}  // namespace

Result<void> send_message(int socket, MessageKind kind, int32_t number, const std::vector<int>& fds) {
  if (fds.size() > kMostDescriptors) return Errno(E2BIG);
  Wire wire{static_cast<uint32_t>(kind), number};
  iovec iov{&wire, sizeof wire};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostDescriptors)] = {};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  attach_descriptors(message, control, fds);
  TRY(host_result(sendmsg(socket, &message, MSG_NOSIGNAL)));
  return {};
}

Result<Message> receive_message(int socket) {
  Wire wire{};
  iovec iov{&wire, sizeof wire};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostDescriptors)];
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const long size = TRY(host_result(recvmsg(socket, &message, MSG_CMSG_CLOEXEC)));
  Message result;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    std::vector<int> fds(count);
    memcpy(fds.data(), CMSG_DATA(header), count * sizeof(int));
    for (int fd : fds) result.fds.emplace_back(fd);
  }
  if (size == 0) return Errno(ECONNRESET);
  if (size != sizeof wire) return Errno(EPROTO);
  result.kind = static_cast<MessageKind>(wire.kind);
  result.number = wire.number;
  return result;
}

Result<UniqueFd> make_description(const char* name, const std::string& content) {
  UniqueFd file(memfd_create(name, MFD_CLOEXEC));
  if (!file) return host_errno();
  for (size_t done = 0; done < content.size();)
    done += static_cast<size_t>(TRY(host_result(write(file.get(), content.data() + done, content.size() - done))));
  return file;
}

Result<std::string> read_description(int fd) {
  // Not fstat, which is newfstatat in the C library: it takes names. And what is no file at all is refused here.
  const off_t size = TRY(host_result(lseek(fd, 0, SEEK_END)));
  if (size > kMostDescription) return Errno(E2BIG);
  std::string text(static_cast<size_t>(size), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const long got = TRY(host_result(pread(fd, text.data() + done, text.size() - done, static_cast<off_t>(done))));
    if (got == 0) return Errno(EIO);
    done += static_cast<size_t>(got);
  }
  return text;
}

}  // namespace caisson::kernel
