// Mux: many byte channels over one (virtio-serial, vsock, a socket), each with its own flow control, so that a slow reader of one stream
// never stops another, and the control channel never waits behind output.
//
// Frame: 12 bytes, little-endian: u32 payload length (at most 64 KiB), u32 channel, u8 type, 3 bytes zero; then the payload.
//   Hello  (channel 0, payload "CAISSON1"): first in each direction.
//   Data   payload for the channel; never more in flight than the receiver's credit.
//   Credit payload u32: the receiver has consumed so many more bytes. Initial credit: 256 KiB per channel and direction.
//   Eof    the sender will send no more on the channel.
//   Reset  the channel is dead in both directions (the reader has gone).
// Channel 0 is the ttrpc connection. Others are opened by the side that names them in a request (the host), by attach() on both sides;
// what arrives for a channel before it is attached is held, up to the initial credit. Everything from the peer is hostile: a frame that
// breaks these rules ends the mux with an error, nothing else.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/result.h"
#include "base/unique_fd.h"
#include "host/event_loop.h"

namespace caisson::sandbox {

inline constexpr uint32_t kControlChannel = 0;
inline constexpr size_t kMaxFramePayload = 64 << 10;
inline constexpr uint32_t kInitialCredit = 256 << 10;

class Mux {
 public:
  // transport: a stream descriptor that poll(2) supports; owned. failed(error): the transport or the peer broke; all channels are dead. A
  // virtio port reads 0 bytes while the host side is disconnected: that is "not yet", when poll_on_zero_read is set.
  struct Options {
    bool poll_on_zero_read = false;
    // Hold what comes for channels that are not yet attached (at most 256 of them): the guest's side. False: such a frame breaks the
    // protocol, for the side that opens all channels.
    bool hold_unattached = true;
  };
  static Result<std::unique_ptr<Mux>> create(host::EventLoop& loop, UniqueFd transport, Options options, std::function<void(Error)> failed);
  ~Mux();

  // Runs ready() when the peer's Hello has arrived.
  void on_ready(std::function<void()> ready);

  // The channel's bytes as one end of a socketpair: for the control channel's ttrpc.
  Result<UniqueFd> attach_socket(uint32_t channel);

  struct ChannelEvents {
    std::function<void()> source_eof;         // local source reached end of file and everything was sent (Eof sent)
    std::function<void()> sink_closed;        // everything received was written and the peer sent Eof or Reset, or the local sink broke
    std::function<void(uint64_t)> delivered;  // total bytes written to sink so far
  };
  // Pumps source -> channel and channel -> sink. Either may be invalid. Owned; made non-blocking without changing what others see of the
  // open file (pipes, fifos and ttys are reopened through /proc/self/fd; sockets use MSG_DONTWAIT; regular files just block).
  Result<void> attach(uint32_t channel, UniqueFd source, UniqueFd sink, ChannelEvents events);

  // Reads what the source holds right now, sends it, and then calls drained(total bytes sent on this channel so far): at end of file, or
  // when the source is empty.
  void drain(uint32_t channel, std::function<void(uint64_t)> drained);
  uint64_t delivered(uint32_t channel) const;
  // Calls done when `delivered` reaches bytes, or the channel's sink is closed.
  void when_delivered(uint32_t channel, uint64_t bytes, std::function<void()> done);
  // Sends what the source holds right now, then Eof, and reads it no more (CloseStdin).
  void close_source(uint32_t channel);
  // Forgets a channel, Reset to the peer if it is still open.
  void detach(uint32_t channel);

 private:
  struct State;
  explicit Mux(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace caisson::sandbox
