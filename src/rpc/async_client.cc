#include <unordered_map>

#include "rpc/connection.h"
#include "rpc/ttrpc.h"

namespace caisson::rpc {

struct AsyncClient::State : std::enable_shared_from_this<State> {
  struct Pending {
    Done done;
    host::EventLoop::TimerId timer = 0;
  };

  State(host::EventLoop& loop, std::function<void()> closed) : loop(loop), on_closed(std::move(closed)) {}

  host::EventLoop& loop;
  std::function<void()> on_closed;
  std::shared_ptr<Connection> connection;
  std::unordered_map<uint32_t, Pending> pending;
  uint32_t next_stream = 1;

  Result<void> handle(Frame frame) {
    if (frame.type == kTypeRequest) return make_error(EPROTO, "a ttrpc server sent a request");
    if (frame.type != kTypeResponse) return {};  // data of a streaming call, which nobody made
    finish(frame.stream, decode_response(frame.payload));
    return {};
  }

  // Nobody waits for an answer that came after its deadline.
  void finish(uint32_t stream, Result<std::string> answer) {
    auto node = pending.extract(stream);
    if (node.empty()) return;
    if (node.mapped().timer != 0) loop.cancel_timer(node.mapped().timer);
    node.mapped().done(std::move(answer));
  }

  void fail_all() {
    while (!pending.empty()) finish(pending.begin()->first, Error(ECONNRESET, "the connection is lost"));
  }

  void call(std::string_view service, std::string_view method, std::string_view payload, std::chrono::milliseconds timeout, Done done) {
    if (!connection || !connection->open()) return fail_later(std::move(done), Error(ECONNRESET, "the connection is lost"));
    uint32_t stream = next_stream;
    while (pending.contains(stream)) stream += 2;
    next_stream = stream + 2;
    auto request = encode_request(stream, service, method, payload, timeout);
    if (!request) return fail_later(std::move(done), std::move(request).error());
    Pending& entry = pending[stream];
    entry.done = std::move(done);
    if (timeout.count() > 0) {
      std::weak_ptr<State> weak = shared_from_this();
      entry.timer = loop.add_timer(timeout, [weak, stream, timeout, method = std::string(method)] {
        auto self = weak.lock();
        if (!self) return;
        self->pending[stream].timer = 0;
        self->finish(stream, make_error(ETIMEDOUT, "{} was not answered in {} ms", method, timeout.count()));
      });
    }
    connection->send(std::move(*request));
  }

  void fail_later(Done done, Error error) {
    loop.post([done = std::move(done), error = std::move(error)] { done(error); });
  }
};

AsyncClient::AsyncClient(host::EventLoop& loop, UniqueFd socket, std::function<void()> closed)
    : state_(std::make_shared<State>(loop, std::move(closed))) {
  std::weak_ptr<State> weak = state_;
  auto ended = [weak] {
    auto self = weak.lock();
    if (!self) return;
    self->fail_all();
    if (self->on_closed) std::exchange(self->on_closed, {})();
  };
  auto created = Connection::create(loop, std::move(socket),
                                    {[weak](Frame frame, Descriptors) {
                                       auto self = weak.lock();
                                       return self ? self->handle(std::move(frame)) : Result<void>();
                                     },
                                     ended});
  if (created) {
    state_->connection = std::move(*created);
  } else {
    loop.post(ended);
  }
}

AsyncClient::~AsyncClient() {
  if (!state_) return;
  state_->on_closed = {};
  close();
}

void AsyncClient::call(std::string_view service, std::string_view method, std::string_view payload, std::chrono::milliseconds timeout,
                       Done done) {
  state_->call(service, method, payload, timeout, std::move(done));
}

void AsyncClient::close() {
  if (state_->connection) state_->connection->close();
  state_->fail_all();
  if (state_->on_closed) std::exchange(state_->on_closed, {})();
}

}  // namespace caisson::rpc
