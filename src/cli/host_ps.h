// This node's ps(1), with only some processes in its table.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"

namespace caisson::cli {

// Runs ps with the options and returns the heading and the lines of these processes. The table needs a PID column.
Result<std::string> host_ps(const std::vector<std::string>& options, const std::vector<pid_t>& pids);

// The lines of a ps table whose PID column is one of pids, below its heading.
Result<std::string> filter_ps(const std::string& table, const std::vector<pid_t>& pids);

}  // namespace caisson::cli
