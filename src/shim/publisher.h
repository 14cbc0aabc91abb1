// Publisher: events to containerd, in order, over ttrpc (service containerd.services.events.ttrpc.v1.Events).
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "containerd.pb.h"
#include "host/event_loop.h"
#include "rpc/ttrpc.h"

namespace caisson::shim {

// Keeps events while containerd is away (a restart) and sends them when it is back; the oldest are dropped beyond 2,048. An empty address
// (CRI-O) drops all.
class Publisher {
 public:
  Publisher(host::EventLoop& loop, std::string ttrpc_address, std::string namespace_);
  ~Publisher();

  // topic: "/tasks/start"; type: "containerd.events.TaskStart"; event: that message.
  void publish(const std::string& topic, const std::string& type, const google::protobuf::MessageLite& event);
  // Calls done when all has been sent, or after 2 s.
  void flush(std::function<void()> done);

 private:
  void send_next();
  void retry_later();
  void settle_flush();

  host::EventLoop& loop_;
  std::string address_;
  std::string namespace_;
  std::deque<std::string> queue_;  // encoded ForwardRequests
  std::unique_ptr<rpc::AsyncClient> client_;
  bool sending_ = false;
  host::EventLoop::TimerId retry_timer_ = 0;
  std::function<void()> flushed_;
  host::EventLoop::TimerId flush_timer_ = 0;
};

containerd::Timestamp timestamp(int64_t unix_nanos);
int64_t now_unix_nanos();

}  // namespace caisson::shim
