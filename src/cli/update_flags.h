// update: flags become a linux.resources document.
#pragma once

#include <string>

#include "base/result.h"

namespace caisson::cli {

// As given; "" where not.
struct UpdateFlags {
  std::string blkio_weight, cpu_period, cpu_quota, cpu_burst, cpu_share, cpu_rt_period, cpu_rt_runtime, cpu_idle, cpuset_cpus, cpuset_mems,
      memory, memory_reservation, memory_swap, pids_limit;
};

// JSON with only the members that were given. EINVAL names the flag.
Result<std::string> resources_from_flags(const UpdateFlags& flags);

// "512m", "1.5g", "1024", "-1": bytes, as docker's units have it (powers of 1024).
Result<int64_t> parse_bytes(const std::string& text);

}  // namespace caisson::cli
