// What is set on a process from outside, with the creator's rights: rlimits, oom_score_adj, scheduling, I/O priority, CPU affinity.
#pragma once

#include <sys/types.h>

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::container {

// Errors name the member of `process`. oom_score_adj that may not be lowered is a warning.
Result<void> apply_process_limits(pid_t pid, const oci::Process& process);

// sched_setaffinity(2) by a list as cpusets have it: "0-3,7". member: the JSON path for errors. "" is nothing to do.
Result<void> apply_affinity(pid_t pid, const std::string& list, std::string_view member);

}  // namespace caisson::container
