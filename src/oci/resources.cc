// "linux.resources" (config-linux.md, "Control groups").
#include <algorithm>

#include "oci/sections.h"

namespace caisson::oci {
namespace {

constexpr Node::Wide kMaxDeviceNumber = UINT32_MAX;

// -1 means every number, as engines write it; so does absence.
void parse_wildcard(const Node& node, std::optional<int64_t>& number) {
  node.read(number, -1, kMaxDeviceNumber);
  if (number == -1) number.reset();
}

void parse_device_rule(const Node& node, DeviceCgroup& rule) {
  node["allow"].read(rule.allow);
  node["type"].read(rule.type);
  static constexpr std::string_view kTypes[] = {"a", "b", "c"};
  if (!rule.type.empty()) check_name(node["type"], rule.type, kTypes);
  parse_wildcard(node["major"], rule.major);
  parse_wildcard(node["minor"], rule.minor);
  node["access"].read(rule.access);
  if (rule.access.find_first_not_of("rwm") != std::string::npos) node["access"].fail_value("must be made of the letters r, w and m");
  if (rule.access.empty()) rule.access = "rwm";
}

void parse_memory(const Node& node, MemoryResources& memory) {
  for (auto [name, member] : {std::pair("limit", &MemoryResources::limit), std::pair("reservation", &MemoryResources::reservation),
                              std::pair("swap", &MemoryResources::swap), std::pair("kernel", &MemoryResources::kernel),
                              std::pair("kernelTCP", &MemoryResources::kernel_tcp)})
    node[name].read(memory.*member, -1, INT64_MAX);
  int64_t limit = memory.limit.value_or(0), swap = memory.swap.value_or(0);
  if (limit > 0 && swap > 0 && swap < limit)
    node["swap"].fail(fmt::format("is memory and swap together, so it must be at least memory.limit, {}, is {}", limit, swap));
  if (limit == -1 && swap > 0) node["swap"].fail("must be -1 where memory.limit is -1 (unlimited)");

  uint64_t swappiness = UINT64_MAX;  // also what engines in Go write for "-1, not set"
  node["swappiness"].read(swappiness);
  if (swappiness != UINT64_MAX) {
    if (swappiness > 100) node["swappiness"].fail_value("must be a number from 0 to 100");
    memory.swappiness = swappiness;
  }
  node["disableOOMKiller"].read(memory.disable_oom_killer);
  node["useHierarchy"].read(memory.use_hierarchy);
  node["checkBeforeUpdate"].read(memory.check_before_update);
}

void parse_cpu(const Node& node, CpuResources& cpu) {
  node["shares"].read(cpu.shares);
  node["quota"].read(cpu.quota);
  node["burst"].read(cpu.burst);
  node["period"].read(cpu.period);
  node["realtimeRuntime"].read(cpu.realtime_runtime);
  node["realtimePeriod"].read(cpu.realtime_period);
  node["cpus"].read(cpu.cpus);
  node["mems"].read(cpu.mems);
  node["idle"].read(cpu.idle, 0, 1);
  if (!cpu.cpus.empty() && !is_cpu_list(cpu.cpus)) node["cpus"].fail_value("must be a list of CPUs like \"0-3,7\"");
  if (!cpu.mems.empty() && !is_cpu_list(cpu.mems)) node["mems"].fail_value("must be a list of memory nodes like \"0-1\"");
}

template <typename T>
void parse_device_number(const Node& node, T& device) {
  node["major"].required().read(device.major, 0, kMaxDeviceNumber);
  node["minor"].required().read(device.minor, 0, kMaxDeviceNumber);
}

void parse_throttle(const Node& node, ThrottleDevice& device) {
  parse_device_number(node, device);
  node["rate"].required().read(device.rate);
}

void parse_block_io(const Node& node, BlockIoResources& io) {
  node["weight"].read(io.weight, 0, 1000);
  node["leafWeight"].read(io.leaf_weight, 0, 1000);
  node["weightDevice"].read_list(io.weight_device, [](const Node& element, WeightDevice& device) {
    parse_device_number(element, device);
    element["weight"].read(device.weight, 0, 1000);
    element["leafWeight"].read(device.leaf_weight, 0, 1000);
    if (!device.weight && !device.leaf_weight) element.fail("must have weight or leafWeight");
  });
  node["throttleReadBpsDevice"].read_list(io.throttle_read_bps, parse_throttle);
  node["throttleWriteBpsDevice"].read_list(io.throttle_write_bps, parse_throttle);
  node["throttleReadIOPSDevice"].read_list(io.throttle_read_iops, parse_throttle);
  node["throttleWriteIOPSDevice"].read_list(io.throttle_write_iops, parse_throttle);
}

// "2MB": digits, K, M or G, B; as hugetlb's file names have it.
bool is_page_size(std::string_view text) {
  size_t digits = text.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos || digits > 9) return false;
  std::string_view unit = text.substr(digits);
  return unit == "KB" || unit == "MB" || unit == "GB";
}

void parse_hugepage_limit(const Node& node, HugepageLimit& limit) {
  node["pageSize"].required().read(limit.page_size);
  if (!is_page_size(limit.page_size)) node["pageSize"].fail_value("must be a size like \"2MB\"");
  node["limit"].required().read(limit.limit);
}

void parse_network(const Node& node, NetworkResources& network) {
  node["classID"].read(network.class_id);
  node["priorities"].each([&](const Node& element) {
    std::string name;
    uint32_t priority = 0;
    element["name"].required().read(name);
    element["priority"].required().read(priority);
    if (name.empty()) element["name"].fail("must not be empty");
    network.priorities[name] = priority;
  });
}

}  // namespace

void parse_resources(const Node& node, Resources& resources) {
  node["devices"].read_list(resources.devices, parse_device_rule);
  parse_memory(node["memory"], resources.memory);
  parse_cpu(node["cpu"], resources.cpu);
  node["pids"]["limit"].read(resources.pids_limit);
  parse_block_io(node["blockIO"], resources.block_io);
  node["hugepageLimits"].read_list(resources.hugepage_limits, parse_hugepage_limit);
  parse_network(node["network"], resources.network);
  node["rdma"].each_member([&](const std::string& name, const Node& element) {
    RdmaLimit& limit = resources.rdma[name];
    element["hcaHandles"].read(limit.hca_handles);
    element["hcaObjects"].read(limit.hca_objects);
    if (!limit.hca_handles && !limit.hca_objects) element.fail("must have hcaHandles or hcaObjects");
  });
  node["unified"].read(resources.unified);
  for (const auto& [file, value] : resources.unified)
    if (file.empty() || file.find('/') != std::string::npos || file == "." || file == "..")
      node["unified"].fail(fmt::format("\"{}\" must be the name of a cgroup file", excerpt(file)));
}

}  // namespace caisson::oci
