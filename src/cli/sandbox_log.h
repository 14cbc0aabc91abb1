// What a sandbox process warned of while it made a container.
#pragma once

#include <string>

namespace caisson::cli {

// Repeats the warnings in <dir>/sandbox.log through our own log, so that they reach the caller: what an isolation cannot honour is named
// there.
void show_sandbox_warnings(const std::string& dir);

}  // namespace caisson::cli
