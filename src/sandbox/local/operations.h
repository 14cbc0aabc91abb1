// OperationQueue: one container's operations, in order. The one lock per container; there is none per sandbox.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include "host/event_loop.h"

namespace caisson::sandbox::local {

// Exclusive operations run alone; shared ones run beside each other. Each starts when its turn comes (at once, if nothing else runs) and
// ends when the last copy of its Turn is gone: it cannot be forgotten.
class OperationQueue {
 public:
  using Turn = std::shared_ptr<void>;
  using Operation = std::function<void(Turn)>;

  explicit OperationQueue(host::EventLoop& loop);
  void exclusive(Operation operation) { add(std::move(operation), true); }
  void shared(Operation operation) { add(std::move(operation), false); }
  // What they were waiting for has gone for good: operations still waiting, and later ones, run at once, to find that and say so.
  void close();

 private:
  struct State;
  void add(Operation operation, bool exclusive);
  std::shared_ptr<State> state_;
};

}  // namespace caisson::sandbox::local
