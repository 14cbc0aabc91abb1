// What tests of several families do with sockets.
#pragma once

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "harness.h"

inline sockaddr_in loopback(uint16_t port = 0) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

template <typename T>
const sockaddr* get(const T& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// SCM_RIGHTS, with a text that is not empty.
inline void send_fds(int socket, const std::vector<int>& fds, const char* text) {
  iovec vector{const_cast<char*>(text), strlen(text)};
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  EQ(sendmsg(socket, &message, 0), strlen(text));
}
// A message and what came with it.
struct Received {
  std::string text;
  std::vector<int> fds;
  ucred who{};
  bool has_who = false;
  int flags = 0;
};
inline Received receive(int socket, size_t size = 100, int flags = 0, size_t control_size = 256) {
  Received received;
  received.text.resize(size);
  iovec vector{received.text.data(), size};
  alignas(cmsghdr) char control[256];
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = control_size;
  received.text.resize(static_cast<size_t>(OK(recvmsg(socket, &message, flags))));
  received.flags = message.msg_flags;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_type == SCM_RIGHTS) {
      received.fds.resize((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
      memcpy(received.fds.data(), CMSG_DATA(header), received.fds.size() * sizeof(int));
    } else if (header->cmsg_type == SCM_CREDENTIALS) {
      memcpy(&received.who, CMSG_DATA(header), sizeof received.who);
      received.has_who = true;
    }
  }
  return received;
}

// Netlink's next answer is an error (or an acknowledgement, 0): its number.
inline int error_answer(int fd) {
  struct {
    nlmsghdr header;
    nlmsgerr error;
    char rest[512];
  } answer{};
  CHECK(recv(fd, &answer, sizeof answer, 0) >= static_cast<ssize_t>(NLMSG_LENGTH(sizeof answer.error)));
  EQ(answer.header.nlmsg_type, NLMSG_ERROR);
  return answer.error.error;
}
