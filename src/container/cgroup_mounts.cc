// Mounts of type "cgroup".
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>

#include "base/log.h"
#include "container/mounts.h"
#include "host/mount.h"
#include "host/rooted_path.h"

namespace caisson::container {
namespace {

std::string last_component(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// The whole tree below the container's cgroup namespace, or where a fresh mount is refused, the container's own folder.
Result<UniqueFd> version_2_tree(InitContext& context, const host::CgroupLayout& layout, uint64_t attributes) {
  auto tree = host::make_filesystem("cgroup2", "cgroup", {}, attributes);
  if (tree || (tree.error().code() != EPERM && tree.error().code() != EBUSY)) return tree;
  const auto own = context.cgroup.folders.find("");
  const bool own_only = context.has_namespace("cgroup") && own != context.cgroup.folders.end();
  UniqueFd bound = TRY(host::clone_mount(AT_FDCWD, own_only ? own->second : layout.unified, false));
  TRY(host::change_mount(bound.get(), {.set = attributes}, false));
  return bound;
}

// One version 1 hierarchy: with a cgroup namespace a mount of its own, which starts at the namespace's root; else the container's folder
// alone.
Result<UniqueFd> version_1_tree(InitContext& context, const std::string& controller, const std::string& mount_point, uint64_t attributes) {
  if (context.has_namespace("cgroup")) {
    std::vector<std::string> parameters;
    if (controller.starts_with("name=")) {
      parameters = {"none", controller};
    } else {
      const std::string joined = last_component(mount_point);  // "cpu,cpuacct"
      for (size_t start = 0; start <= joined.size();) {
        const size_t end = std::min(joined.find(',', start), joined.size());
        parameters.push_back(joined.substr(start, end - start));
        start = end + 1;
      }
    }
    return host::make_filesystem("cgroup", "cgroup", parameters, attributes);
  }
  const auto folder = context.cgroup.folders.find(controller);
  UniqueFd bound = TRY(host::clone_mount(AT_FDCWD, folder != context.cgroup.folders.end() ? folder->second : mount_point, false));
  TRY(host::change_mount(bound.get(), {.set = attributes}, false));
  return bound;
}

Result<void> fill_version_1(InitContext& context, const host::CgroupLayout& layout, uint64_t attributes, int root) {
  std::set<std::string> mounted;
  for (const auto& [controller, mount_point] : layout.controllers) {
    const std::string name = last_component(mount_point);
    if (mounted.insert(name).second) {
      auto tree = version_1_tree(context, controller, mount_point, attributes);
      if (!tree) return std::move(tree).error().within(fmt::format("cgroup controller {}", controller));
      const host::RootedPath folder = TRY(host::open_in_root(root, name, host::Missing::MakeFolder));
      TRY(host::attach_mount(tree->get(), folder.fd.get()));
    }
    // "cpu" beside "cpu,cpuacct", as programs expect it.
    const std::string alias = controller.starts_with("name=") ? controller.substr(5) : controller;
    if (alias != name && symlinkat(name.c_str(), root, alias.c_str()) != 0 && errno != EEXIST)
      return errno_error("cannot make link {}", alias);
  }
  return {};
}

}  // namespace

Result<void> mount_cgroups(InitContext& context, const MountPlan& plan, int target) {
  const host::CgroupLayout layout = TRY(host::cgroup_layout());
  const host::MountChange propagation{.propagation = plan.propagation};
  if (layout.version == host::CgroupVersion::V2) {
    const UniqueFd tree = TRY(version_2_tree(context, layout, plan.set));
    TRY(host::attach_mount(tree.get(), target));
    return host::change_mount(tree.get(), propagation, plan.propagation_recursive);
  }
  const uint64_t writable = plan.set & ~static_cast<uint64_t>(MOUNT_ATTR_RDONLY);
  const UniqueFd tree = TRY(host::make_filesystem("tmpfs", "tmpfs", {"mode=755"}, writable));
  TRY(host::attach_mount(tree.get(), target));
  TRY(fill_version_1(context, layout, plan.set, tree.get()));
  TRY(host::change_mount(tree.get(), {.set = plan.set & MOUNT_ATTR_RDONLY}, false));
  return host::change_mount(tree.get(), propagation, plan.propagation_recursive);
}

}  // namespace caisson::container
