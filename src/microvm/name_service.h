// NameService: the host's end of names for a guest whose resolv.conf names a loopback address, as docker's does for user-defined networks
// (127.0.0.11). That name server is in the pod's network namespace on the node, which the guest's own loopback hides: the agent listens at
// the same address inside (src/agent/name_server.h), and its queries are asked again here, by sockets of that namespace.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "host/event_loop.h"
#include "microvm/guest_link.h"
#include "sandbox/name_frames.h"

namespace caisson::microvm {

// The IPv4 loopback addresses that a resolv.conf(5) names as name servers, each once, at most three (as many as resolvers use): pure.
std::vector<std::string> loopback_name_servers(std::string_view resolv_conf);

class NameService {
 public:
  // link and next_channel must outlive this object.
  NameService(host::EventLoop& loop, GuestLink& link, uint32_t& next_channel);
  ~NameService();
  NameService(const NameService&) = delete;
  NameService& operator=(const NameService&) = delete;

  // An interface of the namespace whose frames go to a tap.
  struct Redirected {
    std::string interface, tap;
  };
  // Serves what the node's file resolv_conf ("": none) asks for, where somebody answers there in the network namespace at the path network,
  // and sees to it that who answers there can ask others by its interfaces. Addresses that are served already stay as they are. done()
  // always runs, at once where there is nothing to do; what goes wrong is a warning: a container without names still runs.
  void serve(const std::string& resolv_conf, const std::string& network, std::vector<Redirected> interfaces, std::function<void()> done);

 private:
  using Clock = std::chrono::steady_clock;
  struct Question {
    uint16_t id = 0;  // the asker's
    Clock::time_point until;
  };
  // One address: what the guest asks comes by `guest`, and goes out by `server`, a UDP socket of the namespace, with the frame's key as its
  // id; or, by TCP, by a worker.
  struct Server {
    std::string address, network;
    UniqueFd server;
    std::unique_ptr<sandbox::NameChannel> guest;
    std::map<uint16_t, Question> questions;
    size_t tcp_questions = 0;
  };

  void begin(const std::string& address, const std::string& network, UniqueFd server, std::function<void()> done);
  void ask(const std::shared_ptr<Server>& server, sandbox::NameFrame frame);
  void ask_by_tcp(const std::shared_ptr<Server>& server, sandbox::NameFrame frame);
  void answered(Server& server);
  void end(Server& server);

  host::EventLoop& loop_;
  GuestLink& link_;
  uint32_t& next_channel_;
  std::map<std::string, std::shared_ptr<Server>> servers_;  // by address
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace caisson::microvm
