// Hooks (runtime-spec config.md, "POSIX-platform Hooks").
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/parse.h"

namespace caisson::container {

// Runs them in order, each with the state document on stdin, its own environment only, and its timeout (SIGKILL). The first failure ends it
// (but of poststop hooks all run, and the last failure is returned, others logged): the error names the kind, the index, the path and the
// status, with what the hook wrote to standard error (bounded). kind: "prestart", "createRuntime"...
Result<void> run_hooks(const std::string& kind, const std::vector<oci::Hook>& hooks, const oci::State& state);

}  // namespace caisson::container
