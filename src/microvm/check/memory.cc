#include "microvm/check/memory.h"

#include <sys/utsname.h>

#include <nlohmann/json.hpp>

#include "host/files.h"
#include "microvm/accel.h"

namespace caisson::microvm {
namespace {

// What a report holds for.
nlohmann::json circumstances() {
  utsname host{};
  uname(&host);
  auto boot = host::read_file("/proc/sys/kernel/random/boot_id", 256);
  return {{"version", CAISSON_VERSION}, {"kernel", host.release}, {"kernel_version", host.version}, {"boot_id", boot ? *boot : ""}};
}

std::string text_of(const nlohmann::json& object, const char* key) {
  auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

bool flag_of(const nlohmann::json& object, const char* key) {
  auto found = object.find(key);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

nlohmann::json to_json(const CheckReport& report) {
  nlohmann::json rows = nlohmann::json::array();
  for (const CheckRow& row : report.rows)
    rows.push_back({{"what", row.what}, {"ok", row.ok}, {"required", row.required}, {"detail", row.detail}, {"remedy", row.remedy}});
  nlohmann::json json = {{"auto_isolation", report.auto_isolation},
                         {"namespace_ok", report.namespace_ok},
                         {"kvm_ok", report.kvm_ok},
                         {"tcg_ok", report.tcg_ok},
                         {"rows", rows}};
  if (report.appkernel_ok) json["appkernel_ok"] = *report.appkernel_ok;
  return json;
}

}  // namespace

std::string report_to_json(const CheckReport& report) {
  return to_json(report).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::optional<CheckReport> remembered_report(const std::string& file) {
  auto text = host::read_file(file, 1 << 20);
  if (!text) return std::nullopt;
  const nlohmann::json json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object() || !json.contains("circumstances") || json["circumstances"] != circumstances()) return std::nullopt;
  auto report = json.find("report");
  if (report == json.end() || !report->is_object()) return std::nullopt;
  CheckReport found{.rows = {},
                    .namespace_ok = flag_of(*report, "namespace_ok"),
                    .kvm_ok = flag_of(*report, "kvm_ok"),
                    .tcg_ok = flag_of(*report, "tcg_ok"),
                    .appkernel_ok = report->contains("appkernel_ok") ? std::optional(flag_of(*report, "appkernel_ok")) : std::nullopt,
                    .auto_isolation = text_of(*report, "auto_isolation")};
  auto rows = report->find("rows");
  if (rows != report->end() && rows->is_array())
    for (const auto& row : *rows)
      if (row.is_object())
        found.rows.push_back(
            {text_of(row, "what"), flag_of(row, "ok"), flag_of(row, "required"), text_of(row, "detail"), text_of(row, "remedy")});
  return found;
}

Result<void> remember_report(const CheckReport& report, const std::string& file) {
  TRY(host::mkdir_p(file.substr(0, file.rfind('/'))));
  const nlohmann::json json = {{"circumstances", circumstances()}, {"report", to_json(report)}};
  return host::write_file_atomic(file, json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n", 0644);
}

bool remembered_kvm() {
  auto report = remembered_report();
  return report && report->kvm_ok;
}

}  // namespace caisson::microvm
