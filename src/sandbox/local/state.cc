#include "sandbox/local/state.h"

namespace caisson::sandbox::local {
namespace {

struct Row {
  std::string_view name;
  v1::Status status;
};
// In the order of State's alternatives.
constexpr Row kRows[] = {
    {"creating", v1::STATUS_CREATING}, {"created", v1::STATUS_CREATED}, {"running", v1::STATUS_RUNNING},
    {"paused", v1::STATUS_PAUSED},     {"stopped", v1::STATUS_STOPPED},
};
static_assert(std::variant_size_v<State> == std::size(kRows));

template <typename From, typename To>
constexpr bool is(const State& from, const State& to) {
  return std::holds_alternative<From>(from) && std::holds_alternative<To>(to);
}

}  // namespace

std::string_view name_of(const State& state) { return kRows[state.index()].name; }
v1::Status status_of(const State& state) { return kRows[state.index()].status; }

Result<void> step(State& state, State next, std::string_view container_id) {
  const bool legal = is<Creating, Created>(state, next) || is<Created, Running>(state, next) || is<Running, Paused>(state, next) ||
                     is<Paused, Running>(state, next) || is<Created, Stopped>(state, next) || is<Running, Stopped>(state, next) ||
                     is<Paused, Stopped>(state, next);
  if (!legal) return make_error(EINVAL, "container {} is {}: it cannot become {}", container_id, name_of(state), name_of(next));
  state = std::move(next);
  return {};
}

}  // namespace caisson::sandbox::local
