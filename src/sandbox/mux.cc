#include "sandbox/mux.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "sandbox/mux_state.h"

namespace caisson::sandbox {
namespace {

// What one turn of the event loop reads from the transport at most, so that a flooding peer stops nothing else.
constexpr size_t kReadBudget = 1 << 20;

}  // namespace

Result<void> Mux::State::start() {
  int flags = fcntl(transport.get(), F_GETFL);
  if (flags < 0 || fcntl(transport.get(), F_SETFL, flags | O_NONBLOCK) < 0)
    return errno_error("cannot make the sandbox's transport non-blocking");
  output.push(MuxOutput::Priority::Control, FrameType::Hello, kControlChannel, kHelloPayload);
  // Edge-triggered: a virtio port reports EPOLLHUP for as long as the host side is disconnected, which must not keep us busy.
  std::weak_ptr<State> weak = weak_from_this();
  TRY(loop.add(transport.get(), EPOLLIN | EPOLLOUT | EPOLLET, [weak](uint32_t events) {
    if (auto state = weak.lock()) state->on_transport(events);
  }));
  return {};
}

void Mux::State::post(std::function<void()> task) {
  loop.post([weak = weak_from_this(), task = std::move(task)] {
    if (auto state = weak.lock()) task();
  });
}

void Mux::State::on_transport(uint32_t events) {
  if (failed) return;
  if (events & EPOLLOUT) flush();
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_transport();
}

void Mux::State::read_transport() {
  size_t budget = kReadBudget;
  while (!failed) {
    if (budget == 0) {
      // The edge has been used up: come back by ourselves.
      if (!std::exchange(read_posted, true))
        post([this] {
          read_posted = false;
          read_transport();
        });
      break;
    }
    std::span<char> space = reader.space();
    ssize_t n = read(transport.get(), space.data(), space.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      if (write_broken) return fail(Error(ECONNRESET, "the sandbox's transport has broken"));
      break;
    }
    if (n == 0 && options.poll_on_zero_read) break;
    if (n < 0) return fail(errno_error("cannot read from the sandbox's transport"));
    if (n == 0) return fail(Error(ECONNRESET, "the other side of the sandbox's transport has gone"));
    reader.filled(static_cast<size_t>(n));
    budget -= std::min(budget, static_cast<size_t>(n));
    Frame frame;
    for (;;) {
      Result<bool> more = reader.next(frame);
      if (!more.ok()) return fail(std::move(more).error().within("the other side of the sandbox's transport broke its protocol"));
      if (!*more) break;
      if (Result<void> handled = handle_frame(frame); !handled.ok())
        return fail(std::move(handled).error().within("the other side of the sandbox's transport broke its protocol"));
    }
  }
  if (!failed) flush();
}

Result<void> Mux::State::handle_frame(const Frame& frame) {
  if (!hello_received) {
    if (frame.type != FrameType::Hello || frame.payload != kHelloPayload) return make_error(EPROTO, "it did not start with Hello");
    hello_received = true;
    if (ready_callback) post([this] { ready_callback(); });
    return {};
  }
  switch (frame.type) {
    case FrameType::Hello:
      return make_error(EPROTO, "a second Hello");
    case FrameType::Data:
      return handle_data(frame);
    case FrameType::Eof:
    case FrameType::Reset:
      return handle_end(frame);
    case FrameType::Credit:
      break;
  }
  MuxChannel* channel = find(frame.channel);
  if (channel == nullptr) {
    if (forgotten.contains(frame.channel)) return {};
    return make_error(EPROTO, "credit for channel {}, which there is not", frame.channel);
  }
  if (frame.credit() == 0 || frame.credit() > kInitialCredit - channel->credit)
    return make_error(EPROTO, "{} bytes of credit for channel {}, more than were sent", frame.credit(), frame.channel);
  channel->credit += frame.credit();
  update_source(*channel);
  return {};
}

// The channel that the peer names; null if what comes for it is to be thrown away.
Result<MuxChannel*> Mux::State::channel_for_peer(uint32_t id) {
  if (MuxChannel* channel = find(id)) return channel;
  if (forgotten.contains(id)) return nullptr;
  if (!options.hold_unattached) return make_error(EPROTO, "channel {} was never opened", id);
  if (held_channels == kMostHeldChannels) return make_error(EPROTO, "more than {} channels that were never opened", kMostHeldChannels);
  ++held_channels;
  return channels.emplace(id, std::make_unique<MuxChannel>(id)).first->second.get();
}

Result<void> Mux::State::handle_data(const Frame& frame) {
  MuxChannel* channel = TRY(channel_for_peer(frame.channel));
  uint32_t& window = channel != nullptr ? channel->window : forgotten.at(frame.channel);
  if (frame.payload.size() > window) return make_error(EPROTO, "more data on channel {} than its credit", frame.channel);
  window -= static_cast<uint32_t>(frame.payload.size());
  if (channel == nullptr || channel->peer_reset) return {};
  if (channel->peer_finished) return make_error(EPROTO, "data on channel {} after its end", frame.channel);
  deliver(*channel, frame.payload);
  return {};
}

Result<void> Mux::State::handle_end(const Frame& frame) {
  MuxChannel* channel = TRY(channel_for_peer(frame.channel));
  if (channel == nullptr) {
    // A Reset may follow an Eof; a channel that both have forgotten is gone after the first.
    forgotten.erase(frame.channel);
    return {};
  }
  bool reset = frame.type == FrameType::Reset;
  if (channel->peer_finished && !reset) return make_error(EPROTO, "channel {} ended twice", frame.channel);
  channel->peer_finished = true;
  if (reset) {
    channel->peer_reset = true;
    if (channel->attached) finish_source(*channel, FrameType::Reset);
  }
  if (channel->attached && channel->pending_bytes() == 0) finish_sink(*channel);
  return {};
}

void Mux::State::flush_soon() {
  if (failed || std::exchange(flush_posted, true)) return;
  post([this] {
    flush_posted = false;
    flush();
  });
}

void Mux::State::flush() {
  if (failed || write_broken) return;
  if (Result<bool> flushed = output.flush(transport.get()); !flushed.ok()) {
    // What the peer sent before it went is still to be read.
    write_broken = true;
    return read_transport();
  }
  if (output.congested() || congested_sources.empty()) return;
  for (uint32_t id : std::exchange(congested_sources, {}))
    if (MuxChannel* channel = find(id)) {
      channel->waits_for_room = false;
      update_source(*channel);
    }
}

void Mux::State::fail(Error error) {
  if (std::exchange(failed, true)) return;
  loop.remove(transport.get());
  transport.reset();
  output = MuxOutput();
  for (auto& [id, channel] : channels) {
    if (!channel->attached) continue;
    finish_source(*channel, FrameType::Eof);
    channel->peer_finished = true;
    // What has been received is still delivered.
    if (channel->pending_bytes() == 0) finish_sink(*channel);
  }
  if (failed_callback) post([this, error = std::move(error)] { failed_callback(error); });
}

void Mux::State::close_all() {
  if (!failed) {
    flush();
    if (!failed) loop.remove(transport.get());
  }
  failed = true;
  for (auto& [id, channel] : channels) {
    unwatch_source(*channel);
    unwatch_sink(*channel);
    channel->sink.close(channel->internal_socket);
  }
  channels.clear();
}

Result<std::unique_ptr<Mux>> Mux::create(host::EventLoop& loop, UniqueFd transport, Options options, std::function<void(Error)> failed) {
  auto state = std::make_shared<State>(loop, std::move(transport), options, std::move(failed));
  TRY(state->start());
  return std::unique_ptr<Mux>(new Mux(std::move(state)));
}

Mux::Mux(std::shared_ptr<State> state) : state_(std::move(state)) {}
Mux::~Mux() { state_->close_all(); }

void Mux::on_ready(std::function<void()> ready) {
  state_->ready_callback = std::move(ready);
  if (state_->hello_received) state_->post([state = state_.get()] { state->ready_callback(); });
}

Result<UniqueFd> Mux::attach_socket(uint32_t channel) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return errno_error("cannot make a socket pair");
  UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  UniqueFd twin(fcntl(ours.get(), F_DUPFD_CLOEXEC, 3));
  if (!twin.valid()) return errno_error("cannot duplicate a descriptor");
  TRY(state_->attach(channel, StreamEnd::adopt(std::move(ours), StreamEnd::Direction::Source),
                     StreamEnd::adopt(std::move(twin), StreamEnd::Direction::Sink), {}, true));
  return theirs;
}

Result<void> Mux::attach(uint32_t channel, UniqueFd source, UniqueFd sink, ChannelEvents events) {
  StreamEnd from;
  StreamEnd to;
  if (source.valid()) from = StreamEnd::adopt(std::move(source), StreamEnd::Direction::Source);
  if (sink.valid()) to = StreamEnd::adopt(std::move(sink), StreamEnd::Direction::Sink);
  return state_->attach(channel, std::move(from), std::move(to), std::move(events), false);
}

void Mux::drain(uint32_t channel, std::function<void(uint64_t)> drained) {
  if (MuxChannel* found = state_->find(channel)) return state_->drain(*found, std::move(drained));
  state_->post([drained = std::move(drained)] { drained(0); });
}

uint64_t Mux::delivered(uint32_t channel) const {
  const MuxChannel* found = state_->find(channel);
  return found != nullptr ? found->delivered : 0;
}

void Mux::when_delivered(uint32_t channel, uint64_t bytes, std::function<void()> done) {
  MuxChannel* found = state_->find(channel);
  if (found == nullptr) return state_->post(std::move(done));
  found->delivery_waits.push_back({bytes, std::move(done)});
  state_->check_delivery_waits(*found);
}

void Mux::close_source(uint32_t channel) {
  MuxChannel* found = state_->find(channel);
  if (found == nullptr || !found->source.valid()) return;
  found->close_when_drained = true;
  state_->drain(*found, [](uint64_t) {});
}

void Mux::detach(uint32_t channel) {
  if (MuxChannel* found = state_->find(channel)) state_->forget(*found);
}

}  // namespace caisson::sandbox
