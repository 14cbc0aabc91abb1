#include <sys/epoll.h>
#include <sys/socket.h>

#include <set>
#include <unordered_map>

#include "base/log.h"
#include "rpc/connection.h"
#include "rpc/ttrpc.h"

namespace caisson::rpc {
namespace {

constexpr int kInternal = 13;
constexpr int kUnimplemented = 12;
constexpr int kResourceExhausted = 8;
constexpr int kInvalidArgument = 3;
constexpr size_t kMaxConnections = 1024;
constexpr size_t kMaxCallsUnderWay = 4096;                     // of one connection
constexpr auto kAcceptPause = std::chrono::milliseconds(100);  // when the process has no descriptor left

}  // namespace

struct Responder::State {
  std::weak_ptr<Connection> connection;
  uint32_t stream = 0;
  bool answered = false;
  std::vector<std::function<void()>> hooks;

  void answer(const Result<std::string>& payload) { send(encode_response(stream, payload)); }
  void send(std::string frame) {
    if (std::exchange(answered, true)) return;
    hooks.clear();
    if (auto open = connection.lock()) open->send(std::move(frame));
  }
  void disconnected() {
    if (std::exchange(answered, true)) return;
    for (auto& hook : std::exchange(hooks, {})) hook();
  }
  ~State() {
    if (!answered) send(encode_status(stream, kInternal, "the call was dropped without an answer"));
  }
};

void Responder::operator()(Result<std::string> payload) const { state_->answer(payload); }
void Responder::on_disconnect(std::function<void()> hook) const {
  if (!state_->answered) state_->hooks.push_back(std::move(hook));
}

namespace {

// One peer of a server: its connection and its calls under way.
class Peer : public std::enable_shared_from_this<Peer> {
 public:
  Peer(std::shared_ptr<CallHandler> handler, std::function<void()> closed) : handler_(std::move(handler)), closed_(std::move(closed)) {}

  Result<void> start(host::EventLoop& loop, UniqueFd socket, std::function<void()> forget) {
    std::weak_ptr<Peer> weak = shared_from_this();
    connection_ = TRY(Connection::create(loop, std::move(socket),
                                         {[weak](Frame frame, Descriptors fds) {
                                            auto self = weak.lock();
                                            return self ? self->handle(std::move(frame), std::move(fds)) : Result<void>();
                                          },
                                          [weak, forget = std::move(forget)] {
                                            auto self = weak.lock();
                                            forget();
                                            if (self) self->ended();
                                          }}));
    return {};
  }

  void close() {
    connection_->close();
    ended();
  }

 private:
  Result<void> handle(Frame frame, Descriptors fds) {
    if (frame.type == kTypeData) return refuse_data(frame);
    if (frame.type != kTypeRequest) return make_error(EPROTO, "a ttrpc client sent a frame of type {}", frame.type);
    if (frame.stream % 2 == 0) return refuse(frame.stream, kInvalidArgument, "a client's stream id must be odd");
    forget_answered();
    if (calls_.contains(frame.stream)) return make_error(EPROTO, "a ttrpc client used stream {} twice at once", frame.stream);
    highest_stream_ = std::max(highest_stream_, frame.stream);
    if ((frame.flags & kFlagRemoteOpen) != 0) return refuse(frame.stream, kUnimplemented, "streaming calls are not supported");
    if (calls_.size() >= kMaxCallsUnderWay)
      return refuse(frame.stream, kResourceExhausted, "too many calls are under way on this connection");
    RequestEnvelope request = TRY(decode_request(frame.payload));
    auto state = std::make_shared<Responder::State>();
    state->connection = connection_;
    state->stream = frame.stream;
    calls_[frame.stream] = state;
    // A handler may close the server, and so end this object.
    auto handler = handler_;
    (*handler)(Call{std::move(request.service), std::move(request.method), std::move(request.payload), std::move(fds),
                    Responder(std::move(state))});
    return {};
  }

  // A data frame belongs to a streaming call. Late ones of calls that were refused before are of no interest.
  Result<void> refuse_data(const Frame& frame) {
    auto found = calls_.find(frame.stream);
    if (found != calls_.end()) {
      if (auto call = found->second.lock()) call->send(encode_status(frame.stream, kUnimplemented, "streaming calls are not supported"));
    } else if (frame.stream > highest_stream_) {
      highest_stream_ = frame.stream;
      return refuse(frame.stream, kUnimplemented, "streaming calls are not supported");
    }
    return {};
  }

  Result<void> refuse(uint32_t stream, int status, std::string_view why) {
    connection_->send(encode_status(stream, status, why));
    return {};
  }

  // Calls are few; those that have been answered are swept out when the next one comes.
  void forget_answered() {
    std::erase_if(calls_, [](const auto& call) {
      auto state = call.second.lock();
      return !state || state->answered;
    });
  }

  void ended() {
    for (auto& [stream, weak] : std::exchange(calls_, {}))
      if (auto state = weak.lock()) state->disconnected();
    if (closed_) std::exchange(closed_, {})();
  }

  std::shared_ptr<CallHandler> handler_;
  std::function<void()> closed_;
  std::shared_ptr<Connection> connection_;
  std::unordered_map<uint32_t, std::weak_ptr<Responder::State>> calls_;
  uint32_t highest_stream_ = 0;
};

}  // namespace

struct Server::State : std::enable_shared_from_this<State> {
  State(host::EventLoop& loop, CallHandler handler) : loop(loop), handler(std::make_shared<CallHandler>(std::move(handler))) {}

  host::EventLoop& loop;
  std::shared_ptr<CallHandler> handler;
  std::vector<UniqueFd> listeners;
  std::set<std::shared_ptr<Peer>> peers;
  bool closed = false;

  Result<void> listen(int socket) {
    std::weak_ptr<State> weak = shared_from_this();
    return loop.add(socket, EPOLLIN, [weak, socket](uint32_t) {
      if (auto self = weak.lock()) self->accept_some(socket);
    });
  }

  void accept_some(int socket) {
    for (int accepted = 0; accepted < 16 && !closed; ++accepted) {
      UniqueFd peer(accept4(socket, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!peer && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) return pause(socket);
      if (!peer) return;
      if (auto added = add(std::move(peer), {}); !added) log::warning("a connection was refused: {}", added.error().message());
    }
  }

  // The listener stays readable while no descriptor is left: without a pause the loop would spin.
  void pause(int socket) {
    log::warning("cannot accept connections for now: {}", strerrordesc_np(errno));
    loop.remove(socket);
    std::weak_ptr<State> weak = shared_from_this();
    loop.add_timer(kAcceptPause, [weak, socket] {
      auto self = weak.lock();
      if (!self || self->closed) return;
      if (auto again = self->listen(socket); !again) log::error("no more connections are accepted: {}", again.error().message());
    });
  }

  Result<void> add(UniqueFd socket, std::function<void()> on_closed) {
    if (closed) return make_error(ESHUTDOWN, "the server is closed");
    if (peers.size() >= kMaxConnections) return make_error(EMFILE, "{} connections are open already", peers.size());
    auto peer = std::make_shared<Peer>(handler, std::move(on_closed));
    std::weak_ptr<State> weak = shared_from_this();
    std::weak_ptr<Peer> weak_peer = peer;
    TRY(peer->start(loop, std::move(socket), [weak, weak_peer] {
      if (auto self = weak.lock()) self->peers.erase(weak_peer.lock());
    }));
    peers.insert(std::move(peer));
    return {};
  }

  void close() {
    if (std::exchange(closed, true)) return;
    for (UniqueFd& listener : listeners) loop.remove(listener.get());
    listeners.clear();
    for (const auto& peer : std::exchange(peers, {})) peer->close();
  }
};

Server::Server(host::EventLoop& loop, CallHandler handler) : state_(std::make_shared<State>(loop, std::move(handler))) {}
Server::~Server() { close(); }

Result<void> Server::add_listener(UniqueFd socket) {
  TRY(state_->listen(socket.get()));
  state_->listeners.push_back(std::move(socket));
  return {};
}

Result<void> Server::add_connection(UniqueFd socket, std::function<void()> closed) {
  return state_->add(std::move(socket), std::move(closed));
}

void Server::close() { state_->close(); }

}  // namespace caisson::rpc
