// Signal names as people and engines write them.
#pragma once

#include <string>

#include "base/result.h"

namespace caisson::cli {

// "9", "KILL", "SIGKILL", "sigkill", "RTMIN+3", "RTMAX-1". Numbers are 0 to 64; 0 only asks whether the process is there.
Result<int> parse_signal(const std::string& text);

}  // namespace caisson::cli
