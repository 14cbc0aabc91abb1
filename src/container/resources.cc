#include "container/resources.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "base/text.h"
#include "container/device_rules.h"
#include "container/resources_writer.h"
#include "host/cgroup_bpf.h"
#include "host/cgroup_files.h"
#include "host/systemd.h"

namespace caisson::container {

Result<std::string> ResourceWriter::folder(const char* controller, std::string_view member) const {
  auto found = paths_.folders.find(v1() ? controller : "");
  if (found == paths_.folders.end())
    return make_error(EINVAL, "linux.resources.{}: cannot be set: the cgroup controller \"{}\" is not available here", member,
                      v1() ? controller : "(v2)");
  return found->second;
}

bool ResourceWriter::has(const char* controller, std::string_view file) const {
  auto found = paths_.folders.find(v1() ? controller : "");
  return found != paths_.folders.end() && host::cgroup_file_exists(found->second, file);
}

Result<void> ResourceWriter::set(const char* controller, std::string_view file, std::string_view value, std::string_view member) const {
  std::string where = TRY(folder(controller, member));
  Result<void> done = host::write_cgroup_file(where, file, value);
  if (done.ok()) return {};
  if (done.error().code() == ENOENT)
    return make_error(EINVAL,
                      "linux.resources.{}: cannot be set: the cgroup {} has no {} (the controller \"{}\" is not enabled for it, or this "
                      "kernel does not have it)",
                      member, where, file, controller);
  return std::move(done).error().within(fmt::format("linux.resources.{}", member));
}

std::optional<uint64_t> ResourceWriter::number(const char* controller, std::string_view file) const {
  auto found = paths_.folders.find(v1() ? controller : "");
  return found == paths_.folders.end() ? std::nullopt : host::read_cgroup_number(found->second, file);
}

void warn_unapplied(std::string_view member, std::string_view why) {
  static std::set<std::string, std::less<>> warned;
  if (warned.insert(std::string(member)).second) log::warning("linux.resources.{} is not applied: {}", member, why);
}

uint64_t weight_from_shares(uint64_t shares) {
  if (shares == 0) return 0;
  shares = std::clamp<uint64_t>(shares, 2, 262144);
  return 1 + (shares - 2) * 9999 / 262142;
}

uint64_t io_weight_from_blkio(uint64_t weight) {
  if (weight == 0) return 0;
  weight = std::clamp<uint64_t>(weight, 10, 1000);
  return 1 + (weight - 10) * 9999 / 990;
}

Result<std::optional<int64_t>> swap_without_memory(int64_t memory_and_swap, int64_t memory) {
  using Answer = std::optional<int64_t>;
  // v1 sets swap to unlimited with unlimited memory; so do runc and we on v2.
  if (memory == -1 && memory_and_swap == 0) return Answer(-1);
  if (memory_and_swap == 0) return Answer();
  if (memory_and_swap == -1) return Answer(-1);
  if (memory_and_swap < -1)
    return make_error(EINVAL, "linux.resources.memory.swap: must be -1 or a number of bytes, is {}", memory_and_swap);
  if (memory <= 0) return make_error(EINVAL, "linux.resources.memory.swap: can be limited only together with linux.resources.memory.limit");
  if (memory_and_swap < memory)
    return make_error(EINVAL,
                      "linux.resources.memory.swap: is memory plus swap and must be at least linux.resources.memory.limit ({}), is {}",
                      memory, memory_and_swap);
  return Answer(memory_and_swap - memory);
}

std::string number_or_max(int64_t value) { return value < 0 ? "max" : std::to_string(value); }

Result<void> check_page_size(const std::string& size) {
  size_t digits = size.find_first_not_of("0123456789");
  std::string_view unit = digits == std::string::npos ? std::string_view() : std::string_view(size).substr(digits);
  if (digits != 0 && (unit == "KB" || unit == "MB" || unit == "GB")) return {};
  return make_error(EINVAL, "linux.resources.hugepageLimits: pageSize must be a number and KB, MB or GB, such as \"2MB\", is \"{}\"", size);
}

Result<void> check_unified_name(const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos || name.find('\0') != std::string::npos)
    return make_error(EINVAL, "linux.resources.unified: \"{}\" must be the name of a file, without \"/\"", name);
  if (name.find('.') == std::string::npos)
    return make_error(EINVAL, "linux.resources.unified: \"{}\" must have the form controller.parameter", name);
  return {};
}

namespace {

// Root of a user namespace may not touch device limits; the node's devices are out of its reach then anyhow.
bool in_user_namespace() {
  Result<std::string> map = host::read_cgroup_file("/proc/self", "uid_map");
  if (!map.ok()) return false;
  std::vector<std::string_view> fields = split_fields(split_fields(*map, '\n').empty() ? "" : split_fields(*map, '\n')[0], ' ');
  return fields.size() != 3 || fields[0] != "0" || fields[1] != "0" || fields[2] != "4294967295";
}

Result<void> set_devices_v1(const std::string& folder, const DeviceList& wanted) {
  DeviceList now = parse_device_list(TRY(host::read_cgroup_file(folder, "devices.list")));
  // An allow-all cgroup hides its exceptions: start again whenever one is or was meant.
  if (now.allow_by_default != wanted.allow_by_default || wanted.allow_by_default) {
    TRY(host::write_cgroup_file(folder, wanted.allow_by_default ? "devices.allow" : "devices.deny", "a"));
    now = DeviceList{wanted.allow_by_default, {}};
  }
  const char* add = wanted.allow_by_default ? "devices.deny" : "devices.allow";
  const char* take = wanted.allow_by_default ? "devices.allow" : "devices.deny";
  std::set<std::string> old(now.exceptions.begin(), now.exceptions.end()), fresh(wanted.exceptions.begin(), wanted.exceptions.end());
  for (const std::string& each : old)
    if (!fresh.contains(each)) TRY(host::write_cgroup_file(folder, take, each));
  for (const std::string& each : fresh)  // all of them: what was taken may have been a part of what stays
    TRY(host::write_cgroup_file(folder, add, each));
  return {};
}

Result<void> set_devices(const host::CgroupPaths& paths, const std::vector<oci::DeviceCgroup>& devices) {
  std::vector<DeviceRule> rules = TRY(device_rules(devices));
  Result<void> done;
  if (auto v1 = paths.folders.find("devices"); v1 != paths.folders.end()) {
    done = set_devices_v1(v1->second, TRY(device_list(rules)));
  } else if (auto v2 = paths.folders.find(""); v2 != paths.folders.end()) {
    Result<UniqueFd> program = host::load_device_program(device_program(rules));
    done = program.ok() ? host::set_device_program(v2->second, program->get()) : Result<void>(std::move(program).error());
  } else {
    warn_unapplied("devices", "there is neither the cgroup controller \"devices\" (v1) nor a v2 cgroup");
  }
  if (done.ok()) return {};
  if (in_user_namespace()) {
    warn_unapplied("devices", done.error().message());
    return {};
  }
  return std::move(done).error().within("linux.resources.devices");
}

}  // namespace

Result<void> apply_resources(const host::CgroupPaths& paths, const oci::Resources& resources, bool update) {
  ResourceWriter writer(paths);
  if (!update || !resources.devices.empty()) TRY(set_devices(paths, resources.devices));
  TRY(writer.v1() ? apply_v1(writer, resources) : apply_v2(writer, resources));
  host::tell_systemd_limits(paths);
  return {};
}

}  // namespace caisson::container
