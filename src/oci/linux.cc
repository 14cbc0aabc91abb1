// The "linux" object (config-linux.md), but for resources and seccomp, which have files of their own.
#include <algorithm>

#include "oci/names.h"
#include "oci/sections.h"

namespace caisson::oci {
namespace {

void parse_namespaces(const Node& node, std::vector<Namespace>& namespaces) {
  node.each([&](const Node& element) {
    Namespace ns;
    element["type"].required().read(ns.type);
    check_name(element["type"], ns.type, names_of(kNamespaces));
    for (const Namespace& other : namespaces)
      if (other.type == ns.type) element["type"].fail_value("must be given once");
    element["path"].read(ns.path);
    if (!ns.path.empty()) element["path"].check_absolute(ns.path);
    namespaces.push_back(std::move(ns));
  });
}

void parse_device(const Node& node, Device& device) {
  node["path"].required().read(device.path);
  node["path"].check_absolute(device.path);
  node["type"].required().read(device.type);
  static constexpr std::string_view kTypes[] = {"b", "c", "p", "u"};
  check_name(node["type"], device.type, kTypes);
  if (device.type != "p") {
    // Linux's dev_t inside the kernel: 12 bits and 20 bits.
    node["major"].required().read(device.major, 0, (1 << 12) - 1);
    node["minor"].required().read(device.minor, 0, (1 << 20) - 1);
  }
  node["fileMode"].read(device.file_mode);
  if (device.file_mode) *device.file_mode &= 07777;  // engines also give the type's bits, in the kernel's or in Go's way
  node["uid"].read(device.uid);
  node["gid"].read(device.gid);
}

// What the kernel takes as an interface's name (dev_valid_name).
bool is_interface_name(std::string_view name) {
  return !name.empty() && name.size() < 16 && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), [](unsigned char c) { return c == '/' || c == ':' || c <= ' ' || c == 0x7f; });
}

void parse_net_devices(const Node& node, std::map<std::string, NetDevice>& devices) {
  node.each_member([&](const std::string& host_name, const Node& element) {
    NetDevice& device = devices[host_name];
    if (!is_interface_name(host_name)) element.fail("must be the name of a network interface");
    element["name"].read(device.name);
    if (!device.name.empty() && !is_interface_name(device.name)) element["name"].fail_value("must be the name of a network interface");
  });
  std::vector<std::string> inside;
  for (const auto& [host_name, device] : devices) {
    const std::string& name = device.name.empty() ? host_name : device.name;
    if (std::find(inside.begin(), inside.end(), name) != inside.end())
      node.fail(fmt::format("two interfaces would be named {}", excerpt(name)));
    inside.push_back(name);
  }
}

// Goes into a path below /sys/fs/resctrl and into its schemata file.
void parse_intel_rdt(const Node& node, std::optional<IntelRdt>& out) {
  if (!node.present()) return;
  IntelRdt& rdt = out.emplace();
  node["closID"].read(rdt.clos_id);
  if (rdt.clos_id == "." || rdt.clos_id == ".." || rdt.clos_id.find('/') != std::string::npos)
    node["closID"].fail_value("must be the name of a folder");
  node["l3CacheSchema"].read(rdt.l3_cache_schema);
  node["memBwSchema"].read(rdt.mem_bw_schema);
  node["schemata"].read(rdt.schemata);
  node["enableMonitoring"].read(rdt.enable_monitoring);
}

void parse_personality(const Node& node, std::optional<Personality>& out) {
  if (!node.present()) return;
  Personality& personality = out.emplace();
  node["domain"].required().read(personality.domain);
  check_name(node["domain"], personality.domain, names_of(kPersonalityDomains));
  node["flags"].read(personality.flags);
  if (!personality.flags.empty()) node["flags"].fail("must be empty: the specification defines no flags");
}

void parse_time_offsets(const Node& node, std::map<std::string, TimeOffset>& offsets) {
  node.each_member([&](const std::string& clock, const Node& element) {
    if (!find_name(kTimeOffsetClocks, clock)) element.fail("is no clock that a time namespace has; must be boottime or monotonic");
    TimeOffset& offset = offsets[clock];
    element["secs"].read(offset.secs);
    element["nanosecs"].read(offset.nanosecs, 0, 999'999'999);
  });
}

void parse_memory_policy(const Node& node, std::optional<MemoryPolicy>& out) {
  if (!node.present()) return;
  MemoryPolicy& policy = out.emplace();
  node["mode"].required().read(policy.mode);
  check_name(node["mode"], policy.mode, names_of(kMemoryPolicyModes));
  node["nodes"].read(policy.nodes);
  if (!policy.nodes.empty() && !is_cpu_list(policy.nodes)) node["nodes"].fail_value("must be a list of memory nodes like \"0-1\"");
  node["flags"].read(policy.flags);
  node["flags"].each([&](const Node& flag) {
    std::string name;
    flag.read(name);
    check_name(flag, name, names_of(kMemoryPolicyFlags));
  });
}

void parse_paths(const Node& node, std::vector<std::string>& paths) {
  node.each([&](const Node& element) {
    std::string& path = paths.emplace_back();
    element.required().read(path);
    element.check_absolute(path);
  });
}

void parse_cgroups_path(const Node& node, std::string& path) {
  node.read(path);
  for (size_t start = 0; start < path.size();) {
    size_t end = std::min(path.find('/', start), path.size());
    if (path.compare(start, end - start, "..") == 0) node.fail_value("must not contain \"..\"");
    start = end + 1;
  }
}

}  // namespace

void parse_id_mappings(const Node& node, std::vector<IdMapping>& mappings) {
  constexpr uint64_t kIds = 1ull << 32;
  node.read_list(mappings, [&](const Node& element, IdMapping& mapping) {
    element["containerID"].required().read(mapping.container_id);
    element["hostID"].required().read(mapping.host_id);
    element["size"].required().read(mapping.size, 1, UINT32_MAX);
    if (uint64_t{mapping.container_id} + mapping.size > kIds || uint64_t{mapping.host_id} + mapping.size > kIds)
      element["size"].fail_value("reaches beyond the last id, 4294967295");
  });
  if (mappings.size() > 340) node.fail(fmt::format("must have at most 340 entries (user_namespaces(7)), has {}", mappings.size()));
}

void parse_linux(const Node& node, Linux& out) {
  parse_id_mappings(node["uidMappings"], out.uid_mappings);
  parse_id_mappings(node["gidMappings"], out.gid_mappings);
  node["sysctl"].read(out.sysctl);
  if (Node resources = node["resources"]; resources.present()) parse_resources(resources, out.resources.emplace());
  parse_cgroups_path(node["cgroupsPath"], out.cgroups_path);
  parse_namespaces(node["namespaces"], out.namespaces);
  node["devices"].read_list(out.devices, parse_device);
  parse_net_devices(node["netDevices"], out.net_devices);
  if (Node seccomp = node["seccomp"]; seccomp.present()) parse_seccomp(seccomp, out.seccomp.emplace());
  node["rootfsPropagation"].read(out.rootfs_propagation);
  if (!out.rootfs_propagation.empty()) check_name(node["rootfsPropagation"], out.rootfs_propagation, names_of(kRootfsPropagations));
  parse_paths(node["maskedPaths"], out.masked_paths);
  parse_paths(node["readonlyPaths"], out.readonly_paths);
  node["mountLabel"].read(out.mount_label);
  parse_intel_rdt(node["intelRdt"], out.intel_rdt);
  parse_personality(node["personality"], out.personality);
  parse_time_offsets(node["timeOffsets"], out.time_offsets);
  parse_memory_policy(node["memoryPolicy"], out.memory_policy);
}

}  // namespace caisson::oci
