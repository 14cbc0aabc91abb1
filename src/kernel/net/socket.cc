#include "kernel/net/socket.h"

#include <string.h>
#include <sys/time.h>

namespace caisson::kernel {
namespace {

constexpr int kReceiveTimeoutNew = 66, kSendTimeoutNew = 67;

template <typename T>
std::string bytes_of(const T& value, size_t room) {
  return std::string(reinterpret_cast<const char*>(&value), std::min(room, sizeof value));
}

}  // namespace

Result<std::string> Socket::option(Task&, int level, int name, size_t room) {
  if (level != SOL_SOCKET) return Errno(ENOPROTOOPT);
  switch (name) {
    case SO_TYPE:
      return bytes_of(type_, room);
    case SO_DOMAIN:
      return bytes_of(family_, room);
    case SO_PROTOCOL:
      return bytes_of(protocol_, room);
    case SO_RCVTIMEO:
    case SO_SNDTIMEO:
    case kReceiveTimeoutNew:
    case kSendTimeoutNew: {
      const int64_t timeout = name == SO_RCVTIMEO || name == kReceiveTimeoutNew ? receive_timeout_ : send_timeout_;
      return bytes_of(timeval{timeout / 1'000'000'000, timeout % 1'000'000'000 / 1000}, room);
    }
    // Of sockets whose other ends are no processes of this machine: nobody (socket(7)).
    case SO_PEERCRED:
      return bytes_of(ucred{0, ~0U, ~0U}, room);
    case SO_PEERGROUPS:
      return Errno(ENODATA);
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<void> Socket::set_option(Task&, int level, int name, std::string_view value) {
  if (level != SOL_SOCKET) return Errno(ENOPROTOOPT);
  switch (name) {
    case SO_TYPE:
    case SO_DOMAIN:
    case SO_PROTOCOL:
    case SO_ERROR:
    case SO_ACCEPTCONN:
      return Errno(ENOPROTOOPT);
    case SO_DETACH_FILTER:
      return Errno(ENOENT);  // none can be attached; libpcap filters by itself then
    case SO_RCVTIMEO:
    case SO_SNDTIMEO:
    case kReceiveTimeoutNew:
    case kSendTimeoutNew: {
      timeval time;
      if (value.size() < sizeof time) return Errno(EINVAL);
      memcpy(&time, value.data(), sizeof time);
      if (time.tv_usec < 0 || time.tv_usec >= 1'000'000) return Errno(EDOM);
      int64_t timeout = 0;
      // A negative time: do not wait at all (the kernel's words); more than the clock can hold: no limit.
      if (time.tv_sec < 0)
        timeout = 1;
      else if (time.tv_sec < INT64_MAX / 1'000'000'000 - 1)
        timeout = time.tv_sec * 1'000'000'000 + time.tv_usec * 1000;
      (name == SO_RCVTIMEO || name == kReceiveTimeoutNew ? receive_timeout_ : send_timeout_) = timeout;
      return {};
    }
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<size_t> Socket::read(Task& task, IoBuffer& buffer, off_t) {
  IncomingMessage message;
  TRY(receive(task, buffer, message));
  return message.length;
}

Result<size_t> Socket::write(Task& task, IoBuffer& buffer, off_t) {
  OutgoingMessage message;
  return send(task, buffer, message);
}

}  // namespace caisson::kernel
