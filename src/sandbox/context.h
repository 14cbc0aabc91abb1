// What a sandbox process is told at its start, on its way there.
#pragma once

#include "base/unique_fd.h"
#include "sandbox/process.h"

namespace caisson::sandbox {

std::string context_to_json(const SandboxContext& context);
Result<SandboxContext> context_from_json(std::string_view json);
// A file in memory with the context, to be read from its start.
Result<UniqueFd> context_descriptor(const SandboxContext& context);

}  // namespace caisson::sandbox
