// PortForward: connections to a pod's loopback address, made on the host in the pod's network namespace, go to the same port inside the
// guest.
//
// That is how port forwarding works with containerd, CRI-O and podman: they enter the namespace and connect to localhost there. The
// namespace's own stack has nothing that listens, since the pod's programs are in the guest.
#pragma once

#include <functional>

#include "host/event_loop.h"
#include "host/socket_lookup.h"
#include "microvm/guest_link.h"

namespace caisson::microvm {

class PortForward {
 public:
  // link and next_channel must outlive this object. Connections that come before the guest is ready are refused (reset).
  PortForward(host::EventLoop& loop, host::CaughtConnections caught, GuestLink& link, uint32_t& next_channel);
  ~PortForward();
  PortForward(const PortForward&) = delete;
  PortForward& operator=(const PortForward&) = delete;

 private:
  void accept_some();
  void forward(UniqueFd client, const std::string& address, uint16_t port);

  host::EventLoop& loop_;
  host::CaughtConnections caught_;
  GuestLink& link_;
  uint32_t& next_channel_;
  std::shared_ptr<size_t> connections_ = std::make_shared<size_t>(0);
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace caisson::microvm
