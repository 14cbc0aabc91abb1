// NameServer: listens inside the guest where its programs look for a name server that is really in the pod's network namespace on the node
// (docker's at 127.0.0.11), and has the host ask that one.
#pragma once

#include <netinet/in.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "host/event_loop.h"
#include "sandbox/mux.h"
#include "sandbox/name_frames.h"

namespace caisson::agent {

class NameServer {
 public:
  // address: an IPv4 loopback address, else EINVAL; EADDRINUSE: a program inside listens there. port: 53, but for tests. channel: the
  // host's end is open already. mux and loop must outlive this object. Programs inside are hostile to each other at most: their queries are
  // bounded in number (what is too much is dropped), size and time.
  static Result<std::unique_ptr<NameServer>> create(host::EventLoop& loop, sandbox::Mux& mux, const std::string& address, uint16_t port,
                                                    uint32_t channel);
  ~NameServer();
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  // Who has asked: a datagram's sender, or a connection (0: it is a datagram).
  struct Question {
    sockaddr_in sender{};
    uint64_t connection = 0;
    Clock::time_point until;
  };
  struct Connection {
    UniqueFd socket;
    std::string in, out;
    bool writes_watched = false;
    Clock::time_point until;
  };

  explicit NameServer(host::EventLoop& loop) : loop_(loop) {}
  Result<void> listen(const std::string& address, uint16_t port);
  void receive_datagrams();
  void accept_connections();
  void serve_connection(uint64_t number, uint32_t events);
  void take_queries(uint64_t number, Connection& connection);
  bool write_answers(Connection& connection);
  void close_connection(uint64_t number);
  bool ask(std::string message, Question question);
  void answered(sandbox::NameFrame frame);
  void watch_time();
  void forget_old();

  host::EventLoop& loop_;
  UniqueFd datagrams_, listener_;
  std::unique_ptr<sandbox::NameChannel> host_;
  std::map<uint16_t, Question> questions_;
  std::map<uint64_t, Connection> connections_;
  uint16_t next_key_ = 0;
  uint64_t next_connection_ = 1;
  host::EventLoop::TimerId timer_ = 0;
};

}  // namespace caisson::agent
