// Connection: frames over a stream socket on an event loop; the half that Server and AsyncClient share.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "rpc/frame.h"
#include "rpc/ttrpc.h"

namespace caisson::rpc {

// Bytes that may wait for a slow reader before the connection is dropped.
inline constexpr size_t kMaxQueuedBytes = 16 << 20;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Events {
    // An error drops the connection.
    std::function<Result<void>(Frame, Descriptors)> frame;
    // Once, when it has ended for whatever reason but close(). From the loop, never from inside send().
    std::function<void()> closed;
  };
  static Result<std::shared_ptr<Connection>> create(host::EventLoop& loop, UniqueFd socket, Events events);
  ~Connection();

  // Queues a whole frame. Without effect once the connection has ended.
  void send(std::string frame);
  // Tries once more to send what is queued, and closes without calling anything.
  void close();
  bool open() const { return socket_.valid(); }

 private:
  Connection(host::EventLoop& loop, UniqueFd socket, Events events) : loop_(loop), socket_(std::move(socket)), events_(std::move(events)) {}
  void ready(uint32_t events);
  void receive();
  Result<bool> receive_some();
  // False when the socket takes no more now.
  Result<bool> flush();
  void fail(const Error& error);
  void end();

  host::EventLoop& loop_;
  UniqueFd socket_;
  Events events_;
  FrameDecoder decoder_;
  Descriptors fds_;  // of the frame under way
  std::string output_;
  size_t sent_ = 0;  // bytes of output_ that have gone
  bool waiting_for_room_ = false;
  bool failed_ = false;
};

}  // namespace caisson::rpc
