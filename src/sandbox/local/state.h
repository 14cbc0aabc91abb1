// A container's states and the legal steps between them (runtime-spec runtime.md, "Lifecycle"; "paused" is runc's).
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"
#include "base/unique_fd.h"
#include "sandbox.pb.h"

namespace caisson::sandbox::local {

struct Creating {};
struct Created {
  UniqueFd start;         // what init waits on; invalid once start has been tried
  bool prepared = false;  // container::prepare() has been called
};
struct Running {};
struct Paused {};
struct Stopped {};
using State = std::variant<Creating, Created, Running, Paused, Stopped>;

// "creating", "created"...
std::string_view name_of(const State& state);
::caisson::sandbox::v1::Status status_of(const State& state);

// The only way from one state to another. EINVAL for a step that no container takes.
Result<void> step(State& state, State next, std::string_view container_id);

}  // namespace caisson::sandbox::local
