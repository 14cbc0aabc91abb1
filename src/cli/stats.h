// Statistics in the form of runc's `events`.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "sandbox/sandbox.h"

namespace caisson::cli {

// {"type":"stats","id":...,"data":{"cpu":...,"memory":...,"pids":...,"blkio":...,"hugetlb":...}}, one line without its end.
std::string stats_event(const std::string& id, const sandbox::v1::StatsResponse& stats);
// {"type":"oom","id":...}
std::string oom_event(const std::string& id);

// Go's durations: "5s", "500ms", "1m30s". More than 0.
Result<std::chrono::milliseconds> parse_duration(const std::string& text);

}  // namespace caisson::cli
