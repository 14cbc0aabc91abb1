// QMP, QEMU's control protocol: one JSON object per line (https://www.qemu.org/docs/master/interop/qmp-spec.html). What QEMU sends is not
// trusted: it may have been taken over by its guest.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "host/event_loop.h"

namespace caisson::microvm {

class QmpClient {
 public:
  using Done = std::function<void(Result<void>)>;
  struct Events {
    std::function<void()> ready;        // greeting received, capabilities negotiated: commands may be sent
    std::function<void(Error)> failed;  // the connection broke, or the peer does not keep to the protocol; once
  };
  // socket: connected, owned. The handlers may destroy the client.
  static Result<std::unique_ptr<QmpClient>> create(host::EventLoop& loop, UniqueFd socket, Events events);
  ~QmpClient();

  // A command without arguments ("stop", "cont"). done is called once, also if the connection breaks, but not when the client is destroyed.
  void execute(const std::string& command, Done done);

 private:
  struct State;
  explicit QmpClient(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace caisson::microvm
