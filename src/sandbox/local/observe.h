// What Stats and ListProcesses tell. Blocking: for workers, since a hung process can make a read of its /proc files hang.
#pragma once

#include <map>

#include "container/container.h"
#include "sandbox/sandbox.h"

namespace caisson::sandbox::local {

Result<v1::StatsResponse> read_stats(const container::Record& record);
// names: pid to exec_id of the processes that the sandbox has started.
Result<v1::ListProcessesResponse> read_processes(const container::Record& record, const std::map<pid_t, std::string>& names);

}  // namespace caisson::sandbox::local
