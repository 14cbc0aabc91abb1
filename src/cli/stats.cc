#include "cli/stats.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

namespace caisson::cli {
namespace {

using Json = nlohmann::ordered_json;
namespace v1 = sandbox::v1;

// What runc and cgroup v1 print for "no limit".
constexpr uint64_t kUnlimited = 9223372036854771712U;

void put(Json& json, const char* name, uint64_t value) {
  if (value != 0) json[name] = value;
}

Json cpu(const v1::StatsResponse& stats) {
  Json usage = Json::object();
  put(usage, "total", stats.cpu_usage_nanos());
  if (stats.cpu_per_cpu_nanos_size() > 0)
    usage["percpu"] = std::vector<uint64_t>(stats.cpu_per_cpu_nanos().begin(), stats.cpu_per_cpu_nanos().end());
  usage["kernel"] = stats.cpu_system_nanos();
  usage["user"] = stats.cpu_user_nanos();
  Json throttling = Json::object();
  put(throttling, "periods", stats.cpu_periods());
  put(throttling, "throttledPeriods", stats.cpu_throttled_periods());
  put(throttling, "throttledTime", stats.cpu_throttled_nanos());
  return {{"usage", usage}, {"throttling", throttling}};
}

Json memory_entry(uint64_t limit, uint64_t usage, uint64_t max, uint64_t failures) {
  Json entry = {{"limit", limit == 0 ? kUnlimited : limit}};
  put(entry, "usage", usage);
  put(entry, "max", max);
  entry["failcnt"] = failures;
  return entry;
}

Json memory(const v1::StatsResponse& stats) {
  Json json = Json::object();
  put(json, "cache", stats.memory_cache_bytes());
  json["usage"] =
      memory_entry(stats.memory_limit_bytes(), stats.memory_usage_bytes(), stats.memory_max_usage_bytes(), stats.memory_failcnt());
  json["swap"] = memory_entry(stats.memory_swap_limit_bytes(), stats.memory_swap_usage_bytes(), 0, 0);
  json["kernel"] = {{"limit", 0}, {"failcnt", 0}};
  json["kernelTCP"] = {{"limit", 0}, {"failcnt", 0}};
  Json raw = Json::object();
  // A map of protobuf has no order of its own.
  std::map<std::string, uint64_t> sorted(stats.memory_raw().begin(), stats.memory_raw().end());
  for (const auto& [name, value] : sorted) raw[name] = value;
  if (!raw.empty()) json["raw"] = raw;
  return json;
}

Json blkio_entries(const google::protobuf::RepeatedPtrField<v1::StatsResponse::BlkioEntry>& entries) {
  Json array = Json::array();
  for (const auto& entry : entries) {
    Json json = Json::object();
    put(json, "major", entry.major());
    put(json, "minor", entry.minor());
    json["op"] = entry.op();
    put(json, "value", entry.value());
    array.push_back(std::move(json));
  }
  return array;
}

Json blkio(const v1::StatsResponse& stats) {
  Json json = Json::object();
  if (stats.io_service_bytes_size() > 0) json["ioServiceBytesRecursive"] = blkio_entries(stats.io_service_bytes());
  if (stats.io_serviced_size() > 0) json["ioServicedRecursive"] = blkio_entries(stats.io_serviced());
  return json;
}

Json hugetlb(const v1::StatsResponse& stats) {
  Json json = Json::object();
  for (const auto& page : stats.hugetlb()) {
    Json entry = Json::object();
    put(entry, "usage", page.usage());
    put(entry, "max", page.max());
    entry["failcnt"] = page.failcnt();
    json[page.page_size()] = std::move(entry);
  }
  return json;
}

}  // namespace

std::string stats_event(const std::string& id, const v1::StatsResponse& stats) {
  Json pids = Json::object();
  put(pids, "current", stats.pids_current());
  put(pids, "limit", stats.pids_limit());
  Json data = {{"cpu", cpu(stats)}, {"memory", memory(stats)}, {"pids", pids}, {"blkio", blkio(stats)}, {"hugetlb", hugetlb(stats)}};
  Json event = {{"type", "stats"}, {"id", id}, {"data", std::move(data)}};
  return event.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string oom_event(const std::string& id) { return Json{{"type", "oom"}, {"id", id}}.dump(); }

Result<std::chrono::milliseconds> parse_duration(const std::string& text) {
  static constexpr struct {
    std::string_view name;
    double milliseconds;
  } kUnits[] = {{"ms", 1}, {"us", 0.001}, {"ns", 0.000001}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};
  double total = 0;
  const char* at = text.data();
  const char* end = at + text.size();
  bool valid = !text.empty();
  while (valid && at != end) {
    double value = 0;
    auto [stop, failed] = std::from_chars(at, end, value, std::chars_format::fixed);
    valid = failed == std::errc() && value >= 0;
    std::string_view left(stop, static_cast<size_t>(end - stop));
    const auto* unit = std::find_if(std::begin(kUnits), std::end(kUnits), [&](const auto& row) { return left.starts_with(row.name); });
    valid = valid && unit != std::end(kUnits);
    if (!valid) break;
    total += value * unit->milliseconds;
    at = stop + unit->name.size();
  }
  if (!valid || total < 1 || total > 1e12)
    return make_error(EINVAL, "\"{}\" is not a duration above 1 ms; examples: 5s, 500ms, 1m30s", text);
  return std::chrono::milliseconds(static_cast<int64_t>(total));
}

}  // namespace caisson::cli
