// NameChannel: DNS messages between a guest's agent, which listens where programs inside look for a name server, and the host, which asks
// the real one in the pod's network namespace.
//
// Frame: u16 length of the message, u16 key (chosen by the guest; the answer has the question's), u8 transport (0: UDP, 1: TCP), all
// little-endian; then the DNS message (RFC 1035 section 4), at least its header of 12 bytes. Everything from the peer is hostile: what
// breaks these rules ends the channel.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "host/event_loop.h"

namespace caisson::sandbox {

inline constexpr size_t kDnsHeaderBytes = 12;

struct NameFrame {
  uint16_t key = 0;
  bool tcp = false;
  std::string message;  // 12 to 65535 bytes
};
std::string pack_name_frame(const NameFrame& frame);

// Frames out of a stream of bytes.
class NameFrameReader {
 public:
  void add(std::string_view bytes) { buffer_ += bytes; }
  // The next whole frame, nothing until there is one, or EPROTO.
  Result<std::optional<NameFrame>> next();

 private:
  std::string buffer_;
};

class NameChannel {
 public:
  // socket: a connected stream socket. received(frame) runs in the loop for each; ended() once when the peer has gone or has broken the
  // rules: the object may be destroyed in either.
  static Result<std::unique_ptr<NameChannel>> create(host::EventLoop& loop, UniqueFd socket, std::function<void(NameFrame)> received,
                                                     std::function<void()> ended);
  ~NameChannel();
  NameChannel(const NameChannel&) = delete;
  NameChannel& operator=(const NameChannel&) = delete;

  // False where too much waits for a peer that does not read: the message is dropped, as DNS allows.
  bool send(const NameFrame& frame);

 private:
  NameChannel(host::EventLoop& loop, UniqueFd socket, std::function<void(NameFrame)> received, std::function<void()> ended);
  void on_events(uint32_t events);
  bool read_some();
  bool write_some();
  void end();

  host::EventLoop& loop_;
  UniqueFd socket_;
  std::function<void(NameFrame)> received_;
  std::function<void()> ended_;
  NameFrameReader reader_;
  std::string waiting_;
  bool writes_watched_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace caisson::sandbox
