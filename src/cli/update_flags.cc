#include "cli/update_flags.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace caisson::cli {
namespace {

using Json = nlohmann::json;

template <typename Number>
Result<Number> parse_number(const char* flag, const std::string& text) {
  Number number = 0;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || end != text.data() + text.size()) return make_error(EINVAL, "{} {}: not a number in range", flag, text);
  return number;
}

template <typename Number>
Result<void> put_number(Json& json, const char* section, const char* member, const char* flag, const std::string& text) {
  if (!text.empty()) json[section][member] = TRY(parse_number<Number>(flag, text));
  return {};
}

Result<void> put_bytes(Json& json, const char* member, const char* flag, const std::string& text) {
  if (text.empty()) return {};
  Result<int64_t> bytes = parse_bytes(text);
  if (!bytes.ok()) return std::move(bytes).error().within(flag);
  json["memory"][member] = *bytes;
  return {};
}

}  // namespace

Result<int64_t> parse_bytes(const std::string& text) {
  if (text == "-1") return int64_t{-1};
  double value = 0;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  std::string unit(failed == std::errc() ? end : text.data(), text.data() + text.size());
  for (char& c : unit) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  if (unit.size() > 1 && unit.back() == 'b') unit.pop_back();
  if (unit.size() == 2 && unit[1] == 'i') unit.pop_back();
  static constexpr std::string_view kUnits = "bkmgtp";
  size_t power = unit.empty() ? 0 : kUnits.find(unit);
  if (failed != std::errc() || unit.size() > 1 || power == std::string_view::npos || !(value >= 0))
    return make_error(EINVAL, "\"{}\" is not a size; examples: 67108864, 64m, 1.5g, -1", text);
  double bytes = std::floor(value * std::pow(1024.0, static_cast<double>(power)));
  if (bytes >= 9.2e18) return make_error(EINVAL, "\"{}\" is too large", text);
  return static_cast<int64_t>(bytes);
}

Result<std::string> resources_from_flags(const UpdateFlags& flags) {
  Json json = Json::object();
  TRY(put_number<uint16_t>(json, "blockIO", "weight", "--blkio-weight", flags.blkio_weight));
  TRY(put_number<uint64_t>(json, "cpu", "period", "--cpu-period", flags.cpu_period));
  TRY(put_number<int64_t>(json, "cpu", "quota", "--cpu-quota", flags.cpu_quota));
  TRY(put_number<uint64_t>(json, "cpu", "burst", "--cpu-burst", flags.cpu_burst));
  TRY(put_number<uint64_t>(json, "cpu", "shares", "--cpu-share", flags.cpu_share));
  TRY(put_number<uint64_t>(json, "cpu", "realtimePeriod", "--cpu-rt-period", flags.cpu_rt_period));
  TRY(put_number<int64_t>(json, "cpu", "realtimeRuntime", "--cpu-rt-runtime", flags.cpu_rt_runtime));
  TRY(put_number<int64_t>(json, "cpu", "idle", "--cpu-idle", flags.cpu_idle));
  if (!flags.cpuset_cpus.empty()) json["cpu"]["cpus"] = flags.cpuset_cpus;
  if (!flags.cpuset_mems.empty()) json["cpu"]["mems"] = flags.cpuset_mems;
  TRY(put_bytes(json, "limit", "--memory", flags.memory));
  TRY(put_bytes(json, "reservation", "--memory-reservation", flags.memory_reservation));
  TRY(put_bytes(json, "swap", "--memory-swap", flags.memory_swap));
  TRY(put_number<int64_t>(json, "pids", "limit", "--pids-limit", flags.pids_limit));
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace caisson::cli
