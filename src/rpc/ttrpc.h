// ttrpc (containerd/ttrpc PROTOCOL.md) over a stream socket, with descriptors where the socket is AF_UNIX.
//
// Frame: u32 length and u32 stream id, big-endian, u8 type, u8 flags, then length bytes (at most 4 MiB). Descriptors that belong to
// a request are sent with the frame's first byte.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "host/event_loop.h"
#include "rpc/frame.h"

namespace caisson::rpc {

inline constexpr size_t kMaxDescriptors = 64;  // with one request

using Descriptors = std::vector<UniqueFd>;

// gRPC status code (google.rpc.Code) for an errno value, and back to one that stands for its kind.
int status_from_errno(int code);
int errno_from_status(int status);

// Sends the one answer of a call. Copyable; the first answer counts. Dropped unanswered, the caller gets an error. If the connection is
// gone by then, the answer is discarded.
class Responder {
 public:
  struct State;
  explicit Responder(std::shared_ptr<State> state) : state_(std::move(state)) {}
  void operator()(Result<std::string> payload) const;
  // Runs hook if the peer's connection closes before the answer is sent.
  void on_disconnect(std::function<void()> hook) const;

 private:
  std::shared_ptr<State> state_;
};

struct Call {
  std::string service;
  std::string method;
  std::string payload;
  Descriptors fds;
  Responder respond;
};

using CallHandler = std::function<void(Call)>;

// Serves any number of connections on an event loop. Requests of one connection are handled concurrently: a handler may answer later.
// A peer that breaks the protocol, or lets 16 MiB of answers pile up unread, loses its connection, nothing else. Streaming calls are
// answered with Unimplemented.
class Server {
 public:
  Server(host::EventLoop& loop, CallHandler handler);
  ~Server();
  // A listening AF_UNIX stream socket; owned from now on.
  Result<void> add_listener(UniqueFd socket);
  // A connected stream socket; owned from now on. closed() runs when it has ended.
  Result<void> add_connection(UniqueFd socket, std::function<void()> closed = {});
  // Sends what is queued (best effort, without blocking) and closes everything.
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// A blocking client for one connection: what the command line uses.
class Client {
 public:
  static Result<Client> connect(const std::string& socket_path);
  explicit Client(UniqueFd socket) : socket_(std::move(socket)) {}

  // timeout 0: none. The error of a remote failure has the remote's errno value (errno_from_status() where the peer does not send it) and
  // message. ETIMEDOUT after the deadline; ECONNRESET when the peer has gone or does not speak ttrpc. fds are borrowed.
  Result<std::string> call(std::string_view service, std::string_view method, std::string_view payload, const std::vector<int>& fds = {},
                           std::chrono::milliseconds timeout = {});
  int fd() const { return socket_.get(); }

 private:
  UniqueFd socket_;
  uint32_t next_stream_ = 1;
  FrameDecoder decoder_;  // keeps half a frame when a call runs out of time
};

// A client on an event loop, with any number of calls under way.
class AsyncClient {
 public:
  using Done = std::function<void(Result<std::string>)>;
  // closed(): the connection has ended; calls under way have failed with ECONNRESET before it runs.
  AsyncClient(host::EventLoop& loop, UniqueFd socket, std::function<void()> closed = {});
  ~AsyncClient();
  void call(std::string_view service, std::string_view method, std::string_view payload, std::chrono::milliseconds timeout, Done done);
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace caisson::rpc
