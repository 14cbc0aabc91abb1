// Inside of the multiplexer: a channel's two directions, and what they share. Only mux*.cc include this.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "sandbox/mux.h"
#include "sandbox/mux_end.h"
#include "sandbox/mux_frame.h"
#include "sandbox/mux_output.h"

namespace caisson::sandbox {

// At most so many channels may be held for a peer that has named them before we have.
inline constexpr size_t kMostHeldChannels = 256;

struct MuxChannel {
  explicit MuxChannel(uint32_t number) : id(number) {}

  const uint32_t id;
  bool attached = false;
  bool internal_socket = false;  // attach_socket: both ends are one socket, whose halves are shut down
  Mux::ChannelEvents events;

  // Local source to peer.
  StreamEnd source;
  bool source_watched = false;
  bool pump_posted = false;
  bool refuses_epoll = false;
  bool waits_for_room = false;  // in congested_sources
  bool close_when_drained = false;
  bool finished = false;             // we have sent Eof or Reset
  uint32_t credit = kInitialCredit;  // bytes that we may still send
  uint64_t sent = 0;
  struct Drain {
    uint64_t until = 0;  // `sent` at which what the source held has gone
    std::function<void(uint64_t)> done;
  };
  std::vector<Drain> drains;

  // Peer to local sink.
  StreamEnd sink;
  bool sink_watched = false;
  bool sink_done = false;
  bool reset_sent = false;
  bool peer_finished = false;  // Eof or Reset came
  bool peer_reset = false;
  std::string pending;  // received, not yet written: from pending_begin on
  size_t pending_begin = 0;
  uint32_t window = kInitialCredit;  // bytes that the peer may still send
  uint32_t unacknowledged = 0;       // consumed, not yet credited to the peer
  uint64_t delivered = 0;
  struct DeliveryWait {
    uint64_t bytes = 0;
    std::function<void()> done;
  };
  std::vector<DeliveryWait> delivery_waits;

  size_t pending_bytes() const { return pending.size() - pending_begin; }
};

struct Mux::State : std::enable_shared_from_this<Mux::State> {
  State(host::EventLoop& event_loop, UniqueFd stream, Options mux_options, std::function<void(Error)> on_failure)
      : loop(event_loop), transport(std::move(stream)), options(mux_options), failed_callback(std::move(on_failure)) {}

  host::EventLoop& loop;
  UniqueFd transport;
  Options options;
  std::function<void(Error)> failed_callback;
  std::function<void()> ready_callback;
  bool hello_received = false;
  bool failed = false;
  bool write_broken = false;
  bool read_posted = false;
  bool flush_posted = false;
  FrameReader reader;
  MuxOutput output;
  std::unordered_map<uint32_t, std::unique_ptr<MuxChannel>> channels;
  size_t held_channels = 0;
  // Channels that we have forgotten and the peer has not ended: what it may still send, to be thrown away.
  std::map<uint32_t, uint32_t> forgotten;
  std::vector<uint32_t> congested_sources;

  // mux.cc: transport and frames.
  Result<void> start();
  void close_all();
  void on_transport(uint32_t events);
  void read_transport();
  Result<void> handle_frame(const Frame& frame);
  Result<void> handle_data(const Frame& frame);
  Result<void> handle_end(const Frame& frame);
  Result<MuxChannel*> channel_for_peer(uint32_t id);
  void flush_soon();
  void flush();
  void fail(Error error);
  // Runs task in the next turn unless the mux is gone by then.
  void post(std::function<void()> task);

  // mux_channel.cc: one channel's ends.
  MuxChannel* find(uint32_t id);
  Result<void> attach(uint32_t id, StreamEnd source, StreamEnd sink, ChannelEvents events, bool internal_socket);
  void forget(MuxChannel& channel);
  void update_source(MuxChannel& channel);
  void unwatch_source(MuxChannel& channel);
  void post_pump(MuxChannel& channel);
  void pump_source(MuxChannel& channel);
  void check_drains(MuxChannel& channel, bool source_empty);
  void finish_source(MuxChannel& channel, FrameType how);
  void drain(MuxChannel& channel, std::function<void(uint64_t)> done);
  void deliver(MuxChannel& channel, std::string_view bytes);
  size_t write_sink(MuxChannel& channel, std::string_view bytes);
  void flush_sink(MuxChannel& channel);
  void watch_sink(MuxChannel& channel);
  void unwatch_sink(MuxChannel& channel);
  void consumed(MuxChannel& channel, size_t bytes);
  void finish_sink(MuxChannel& channel);
  void break_sink(MuxChannel& channel);
  void check_delivery_waits(MuxChannel& channel);
  static MuxOutput::Priority priority(const MuxChannel& channel) {
    return channel.id == kControlChannel ? MuxOutput::Priority::Control : MuxOutput::Priority::Data;
  }
};

}  // namespace caisson::sandbox
