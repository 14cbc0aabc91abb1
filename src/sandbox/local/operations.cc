#include "sandbox/local/operations.h"

namespace caisson::sandbox::local {

struct OperationQueue::State : std::enable_shared_from_this<State> {
  struct Entry {
    Operation operation;
    bool exclusive = false;
  };

  explicit State(host::EventLoop& loop) : loop(loop) {}

  host::EventLoop& loop;
  std::deque<Entry> waiting;
  int running = 0;
  bool exclusive_running = false;
  bool closed = false;

  void start_next() {
    while (!waiting.empty() && !exclusive_running && (running == 0 || !waiting.front().exclusive)) {
      Entry entry = std::move(waiting.front());
      waiting.pop_front();
      ++running;
      exclusive_running = entry.exclusive;
      std::weak_ptr<State> weak = weak_from_this();
      entry.operation(Turn(this, [weak](void*) {
        if (auto self = weak.lock()) self->finished();
      }));
    }
  }

  // The next one starts from the loop: whoever let go of the Turn is in the middle of something.
  void finished() {
    --running;
    exclusive_running = false;
    if (waiting.empty()) return;
    loop.post([self = shared_from_this()] { self->start_next(); });
  }
};

OperationQueue::OperationQueue(host::EventLoop& loop) : state_(std::make_shared<State>(loop)) {}

void OperationQueue::close() {
  auto state = state_;
  state->closed = true;
  for (State::Entry& entry : std::exchange(state->waiting, {})) entry.operation(Turn());
}

void OperationQueue::add(Operation operation, bool exclusive) {
  if (state_->closed) return operation(Turn());
  state_->waiting.push_back({std::move(operation), exclusive});
  // Kept alive: the operation may bring about the end of whoever owns the queue.
  auto state = state_;
  state->start_next();
}

}  // namespace caisson::sandbox::local
