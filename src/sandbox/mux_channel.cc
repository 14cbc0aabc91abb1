// One channel's two directions: source to peer, peer to sink.
#include <sys/epoll.h>

#include <algorithm>

#include "base/log.h"
#include "sandbox/mux_state.h"

namespace caisson::sandbox {
namespace {

// Reads per event: a busy source lets others have their turn.
constexpr int kReadsPerTurn = 4;
// The peer is told of what has been consumed in steps of this.
constexpr uint32_t kCreditStep = kInitialCredit / 4;

}  // namespace

MuxChannel* Mux::State::find(uint32_t id) {
  auto found = channels.find(id);
  return found == channels.end() ? nullptr : found->second.get();
}

Result<void> Mux::State::attach(uint32_t id, StreamEnd source, StreamEnd sink, ChannelEvents events, bool internal_socket) {
  if (failed) return make_error(ECONNRESET, "the sandbox's transport has broken");
  if (forgotten.contains(id)) return make_error(EEXIST, "channel {} was used before", id);
  MuxChannel* channel = find(id);
  if (channel != nullptr && channel->attached) return make_error(EEXIST, "channel {} is in use", id);
  if (channel == nullptr)
    channel = channels.emplace(id, std::make_unique<MuxChannel>(id)).first->second.get();
  else
    --held_channels;
  channel->attached = true;
  channel->internal_socket = internal_socket;
  channel->events = std::move(events);
  channel->source = std::move(source);
  channel->sink = std::move(sink);
  if (channel->peer_reset || !channel->source.valid()) finish_source(*channel, channel->peer_reset ? FrameType::Reset : FrameType::Eof);
  if (!channel->sink.valid()) channel->sink_done = true;
  if (channel->pending_bytes() > 0) flush_sink(*channel);
  if (channel->peer_finished && channel->pending_bytes() == 0) finish_sink(*channel);
  update_source(*channel);
  flush_soon();
  return {};
}

void Mux::State::forget(MuxChannel& channel) {
  unwatch_source(channel);
  unwatch_sink(channel);
  channel.source.close();
  channel.sink.close(channel.internal_socket);
  channel.sink_done = true;
  if (!failed) {
    if (!channel.finished || (!channel.peer_finished && !channel.reset_sent)) output.push(priority(channel), FrameType::Reset, channel.id);
    if (!channel.peer_finished) forgotten[channel.id] = channel.window;
    flush_soon();
  }
  check_drains(channel, true);
  check_delivery_waits(channel);
  if (!channel.attached) --held_channels;
  channels.erase(channel.id);
}

// Source to peer.

void Mux::State::unwatch_source(MuxChannel& channel) {
  if (std::exchange(channel.source_watched, false)) loop.remove(channel.source.fd());
}

void Mux::State::post_pump(MuxChannel& channel) {
  if (std::exchange(channel.pump_posted, true)) return;
  post([this, id = channel.id] {
    MuxChannel* found = find(id);
    if (found == nullptr) return;
    found->pump_posted = false;
    pump_source(*found);
  });
}

// Watches the source exactly while it may be read. (Not with an empty event mask while it may not: EPOLLHUP would come all the same, again
// and again.)
void Mux::State::update_source(MuxChannel& channel) {
  bool wanted = channel.source.valid() && !channel.finished && channel.credit > 0;
  if (wanted && output.congested()) {
    if (!std::exchange(channel.waits_for_room, true)) congested_sources.push_back(channel.id);
    wanted = false;
  }
  if (!wanted) return unwatch_source(channel);
  // Whoever waits for the source to be empty needs a read that says so; no event will.
  if (!channel.source.pollable() || channel.refuses_epoll || !channel.drains.empty()) return post_pump(channel);
  if (channel.source_watched) return;
  Result<void> added = loop.add(channel.source.fd(), EPOLLIN, [weak = weak_from_this(), id = channel.id](uint32_t) {
    auto state = weak.lock();
    MuxChannel* found = state ? state->find(id) : nullptr;
    if (found != nullptr) state->pump_source(*found);
  });
  channel.source_watched = added.ok();
  if (added.ok()) return;
  channel.refuses_epoll = true;
  post_pump(channel);
}

void Mux::State::pump_source(MuxChannel& channel) {
  for (int i = 0; i < kReadsPerTurn; ++i) {
    if (!channel.source.valid() || channel.finished || channel.credit == 0 || output.congested()) break;
    std::span<char> space = output.reserve(channel.credit);
    Result<size_t> got = channel.source.read(space);
    if (!got.ok() && got.error().code() == EAGAIN) {
      check_drains(channel, true);
      break;
    }
    if (!got.ok() || *got == 0) {
      finish_source(channel, FrameType::Eof);
      break;
    }
    output.commit(priority(channel), channel.id, *got);
    channel.credit -= static_cast<uint32_t>(*got);
    channel.sent += *got;
    check_drains(channel, false);
    if (*got < space.size() && channel.drains.empty()) break;
  }
  flush();
  // flush() may have ended all channels, but it erases none.
  update_source(channel);
}

void Mux::State::check_drains(MuxChannel& channel, bool source_empty) {
  if (!channel.source.valid() || channel.finished) source_empty = true;
  std::erase_if(channel.drains, [&](MuxChannel::Drain& drain) {
    if (!source_empty && channel.sent < drain.until) return false;
    post([done = std::move(drain.done), sent = channel.sent] { done(sent); });
    return true;
  });
  if (channel.close_when_drained && channel.drains.empty() && !channel.finished) finish_source(channel, FrameType::Eof);
}

void Mux::State::finish_source(MuxChannel& channel, FrameType how) {
  unwatch_source(channel);
  // The sink of an internal socket is the same socket; it is closed when the sink is.
  bool had_source = channel.source.valid();
  channel.source.close();
  if (!channel.finished) {
    channel.finished = true;
    if (how == FrameType::Reset) channel.reset_sent = true;
    if (!failed) output.push(priority(channel), how, channel.id);
    flush_soon();
  }
  check_drains(channel, true);
  if (had_source && channel.events.source_eof) post([eof = channel.events.source_eof] { eof(); });
}

void Mux::State::drain(MuxChannel& channel, std::function<void(uint64_t)> done) {
  uint64_t until = channel.source.valid() ? channel.sent + channel.source.readable_now() : channel.sent;
  // An empty source still gets one read: it may be at its end, and a terminal's length is only a bound.
  channel.drains.push_back({until == channel.sent ? until + 1 : until, std::move(done)});
  if (!channel.source.valid() || channel.finished)
    check_drains(channel, true);
  else
    pump_source(channel);
}

// Peer to sink.

void Mux::State::deliver(MuxChannel& channel, std::string_view bytes) {
  if (channel.sink_done) return;  // nobody reads it: no more credit
  if (channel.attached && channel.pending_bytes() == 0) bytes.remove_prefix(write_sink(channel, bytes));
  if (bytes.empty() || channel.sink_done) return;
  if (channel.pending_begin > 0 && channel.pending_begin >= channel.pending.size() / 2) {
    channel.pending.erase(0, channel.pending_begin);
    channel.pending_begin = 0;
  }
  channel.pending.append(bytes);
  if (channel.attached) watch_sink(channel);
}

// Writes what the sink takes now and returns how much that was.
size_t Mux::State::write_sink(MuxChannel& channel, std::string_view bytes) {
  size_t total = 0;
  while (total < bytes.size()) {
    Result<size_t> wrote = channel.sink.write(bytes.substr(total));
    if (!wrote.ok() && wrote.error().code() == EAGAIN) break;
    if (!wrote.ok()) {
      if (wrote.error().code() != EPIPE)
        log::debug("channel {}: the local reader has gone: {}", channel.id, strerrordesc_np(wrote.error().code()));
      break_sink(channel);
      return bytes.size();
    }
    total += *wrote;
  }
  if (total > 0) consumed(channel, total);
  return total;
}

void Mux::State::flush_sink(MuxChannel& channel) {
  if (!channel.sink_done) channel.pending_begin += write_sink(channel, std::string_view(channel.pending).substr(channel.pending_begin));
  if (!channel.sink_done && channel.pending_bytes() > 0) return watch_sink(channel);
  std::string().swap(channel.pending);
  channel.pending_begin = 0;
  unwatch_sink(channel);
  if (channel.peer_finished) finish_sink(channel);
}

void Mux::State::watch_sink(MuxChannel& channel) {
  if (channel.sink_watched) return;
  Result<void> added = loop.add(channel.sink.fd(), EPOLLOUT, [weak = weak_from_this(), id = channel.id](uint32_t) {
    auto state = weak.lock();
    MuxChannel* found = state ? state->find(id) : nullptr;
    if (found == nullptr) return;
    state->flush_sink(*found);
    state->flush_soon();
  });
  channel.sink_watched = added.ok();
  if (!added.ok()) break_sink(channel);
}

void Mux::State::unwatch_sink(MuxChannel& channel) {
  if (std::exchange(channel.sink_watched, false)) loop.remove(channel.sink.fd());
}

void Mux::State::consumed(MuxChannel& channel, size_t bytes) {
  channel.delivered += bytes;
  channel.unacknowledged += static_cast<uint32_t>(bytes);
  if (channel.unacknowledged >= kCreditStep && !failed && !channel.peer_finished) {
    char payload[4];
    for (int i = 0; i < 4; ++i) payload[i] = static_cast<char>(channel.unacknowledged >> (8 * i));
    output.push(MuxOutput::Priority::Control, FrameType::Credit, channel.id, {payload, sizeof payload});
    channel.window += channel.unacknowledged;
    channel.unacknowledged = 0;
  }
  if (channel.events.delivered) post([event = channel.events.delivered, total = channel.delivered] { event(total); });
  check_delivery_waits(channel);
}

// Everything has been written that will ever come.
void Mux::State::finish_sink(MuxChannel& channel) {
  unwatch_sink(channel);
  bool had_sink = channel.sink.valid();
  channel.sink.close(channel.internal_socket);
  channel.sink_done = true;
  check_delivery_waits(channel);
  if (had_sink && channel.events.sink_closed) post([closed = channel.events.sink_closed] { closed(); });
}

// The local reader has gone. A channel that only delivers is reset, so that the writer at the other end learns of it; one whose source
// still lives (a terminal) goes on in that direction.
void Mux::State::break_sink(MuxChannel& channel) {
  std::string().swap(channel.pending);
  channel.pending_begin = 0;
  if (channel.finished && !channel.peer_finished && !channel.reset_sent && !failed) {
    channel.reset_sent = true;
    output.push(priority(channel), FrameType::Reset, channel.id);
    flush_soon();
  }
  finish_sink(channel);
}

void Mux::State::check_delivery_waits(MuxChannel& channel) {
  std::erase_if(channel.delivery_waits, [&](MuxChannel::DeliveryWait& wait) {
    if (!channel.sink_done && channel.delivered < wait.bytes) return false;
    post(std::move(wait.done));
    return true;
  });
}

}  // namespace caisson::sandbox
