// "root" and "mounts" (config.md, "Root" and "Mounts").
#include <algorithm>

#include "base/log.h"
#include "oci/mount_options.h"
#include "oci/sections.h"

namespace caisson::oci {

void parse_root(const Node& node, Root& root) {
  node.required();
  node["path"].required().read(root.path);
  if (root.path.empty()) node["path"].fail("must not be empty");
  node["readonly"].read(root.readonly);
}

void parse_mount(const Node& node, Mount& mount) {
  Node destination = node["destination"];
  destination.required().read(mount.destination);
  if (mount.destination.empty()) return destination.fail("must not be empty");
  if (!mount.destination.starts_with('/')) {
    // config.md: deprecated, and to be taken as relative to "/".
    log::warning("{}: {}: is relative, taken as /{}", node.reading().document(), destination.path(), excerpt(mount.destination));
    mount.destination = fmt::format("/{}", mount.destination);
  }
  node["type"].read(mount.type);
  node["source"].read(mount.source);
  node["options"].read(mount.options);
  parse_id_mappings(node["uidMappings"], mount.uid_mappings);
  parse_id_mappings(node["gidMappings"], mount.gid_mappings);

  bool bind = mount.type == "bind" || mount.type == "rbind";
  for (const std::string& name : mount.options) {
    const MountOption* option = find_mount_option(name);
    bind |= option && option->kind == MountOptionKind::Flag && (option->set & MS_BIND) != 0;
  }
  if (bind && mount.source.empty()) node["source"].fail("must be given for a bind mount");
  if (!bind && mount.type.empty()) node["type"].fail("must be given where options have neither bind nor rbind");
  if (mount.uid_mappings.empty() != mount.gid_mappings.empty()) node.fail("uidMappings and gidMappings must be given together");
}

}  // namespace caisson::oci
