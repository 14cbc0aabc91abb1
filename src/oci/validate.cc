// What only the whole document can tell (the rules are the specification's; where it leaves room, runc's).
#include <algorithm>

#include "oci/mount_options.h"
#include "oci/names.h"
#include "oci/sections.h"

namespace caisson::oci {
namespace {

bool is_mapped(uint32_t id, const std::vector<IdMapping>& mappings) {
  return std::any_of(mappings.begin(), mappings.end(),
                     [&](const IdMapping& m) { return id >= m.container_id && id - m.container_id < m.size; });
}

void check_user_namespace(const Node& root, const Spec& spec) {
  Node node = root["linux"];
  const Namespace* user = spec.find_namespace("user");
  const Linux& config = spec.linux_;
  if (!user) {
    if (!config.uid_mappings.empty()) node["uidMappings"].fail("needs a namespace of type user in linux.namespaces");
    if (!config.gid_mappings.empty()) node["gidMappings"].fail("needs a namespace of type user in linux.namespaces");
    return;
  }
  if (!user->path.empty()) return;  // whatever that namespace maps
  if (config.uid_mappings.empty()) node["uidMappings"].fail("must be given for a new user namespace");
  if (config.gid_mappings.empty()) node["gidMappings"].fail("must be given for a new user namespace");
  if (!spec.has_process) return;
  Node process_user = root["process"]["user"];
  if (!is_mapped(spec.process.user.uid, config.uid_mappings))
    process_user["uid"].fail(fmt::format("{} is not mapped by linux.uidMappings", spec.process.user.uid));
  if (!is_mapped(spec.process.user.gid, config.gid_mappings))
    process_user["gid"].fail(fmt::format("{} is not mapped by linux.gidMappings", spec.process.user.gid));
  for (uint32_t gid : spec.process.user.additional_gids)
    if (!is_mapped(gid, config.gid_mappings))
      process_user["additionalGids"].fail(fmt::format("{} is not mapped by linux.gidMappings", gid));
}

void check_hostname(const Node& node, const std::string& name, const Spec& spec) {
  if (name.empty()) return;
  if (!spec.find_namespace("uts")) node.fail("needs a namespace of type uts in linux.namespaces");
  if (name.size() > 64) node.fail("must have at most 64 bytes");  // __NEW_UTS_LEN
}

void check_time(const Node& node, const Spec& spec) {
  if (spec.linux_.time_offsets.empty()) return;
  const Namespace* time = spec.find_namespace("time");
  if (!time) return node.fail("needs a namespace of type time in linux.namespaces");
  if (!time->path.empty()) node.fail("cannot be given where a time namespace is joined by its path: its offsets are set");
}

void check_mounts(const Node& node, const Spec& spec) {
  bool has_mappings = spec.find_namespace("user") && !spec.linux_.uid_mappings.empty();
  size_t index = 0;
  node.each([&](const Node& element) {
    const Mount& mount = spec.mounts[index++];
    bool idmap = std::any_of(mount.options.begin(), mount.options.end(), [](const std::string& name) {
      const MountOption* option = find_mount_option(name);
      return option && (option->kind == MountOptionKind::IdMap || option->kind == MountOptionKind::RIdMap);
    });
    if (idmap && mount.uid_mappings.empty() && !has_mappings)
      element["options"].fail("idmap and ridmap need uidMappings and gidMappings, in the mount or for the container's user namespace");
  });
}

void check_needs(const Node& node, const Spec& spec, const char* type, bool used) {
  if (used && !spec.find_namespace(type)) node.fail(fmt::format("needs a namespace of type {} in linux.namespaces", type));
}

}  // namespace

void check_spec(const Node& root, const Spec& spec) {
  check_user_namespace(root, spec);
  check_hostname(root["hostname"], spec.hostname, spec);
  check_hostname(root["domainname"], spec.domainname, spec);
  Node node = root["linux"];
  check_time(node["timeOffsets"], spec);
  check_mounts(root["mounts"], spec);
  check_needs(node["maskedPaths"], spec, "mount", !spec.linux_.masked_paths.empty());
  check_needs(node["readonlyPaths"], spec, "mount", !spec.linux_.readonly_paths.empty());
  check_needs(node["netDevices"], spec, "network", !spec.linux_.net_devices.empty());
  check_sysctl(node["sysctl"], spec);
}

bool is_cpu_list(std::string_view text) {
  // Ranges of numbers, perhaps with a stride ("0-31:2/8" is the kernel's, which cpuset takes as well).
  if (text.empty() || text.size() > 4096) return false;
  auto number = [&](uint32_t& value) {
    size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    if (digits == 0 || digits > 6) return false;
    value = 0;
    for (char c : text.substr(0, digits)) value = value * 10 + static_cast<uint32_t>(c - '0');
    text.remove_prefix(digits);
    return true;
  };
  auto skip = [&](char c) {
    if (!text.starts_with(c)) return false;
    text.remove_prefix(1);
    return true;
  };
  for (;;) {
    uint32_t first = 0, last = 0, used = 0, group = 0;
    if (!number(first)) return false;
    if (skip('-')) {
      if (!number(last) || last < first) return false;
      if (skip(':') && (!number(used) || !skip('/') || !number(group) || group == 0 || used > group)) return false;
    }
    if (text.empty()) return true;
    if (!skip(',')) return false;
  }
}

void check_name(const Node& node, const std::string& name, std::span<const std::string_view> names) {
  if (!contains(names, name)) node.fail_value(fmt::format("must be {}", list_names(names)));
}

}  // namespace caisson::oci
