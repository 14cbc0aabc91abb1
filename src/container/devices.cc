#include "container/devices.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "container/mount_plan.h"
#include "host/mount.h"
#include "host/rooted_path.h"

namespace caisson::container {
namespace {

struct Node {
  std::string path;
  mode_t type;
  dev_t number;
  mode_t mode;
  uint32_t uid, gid;
};

// runtime-spec config-linux.md, "Default Devices".
constexpr struct {
  const char* path;
  unsigned major, minor;
} kDefaults[] = {
    {"/dev/null", 1, 3}, {"/dev/zero", 1, 5}, {"/dev/full", 1, 7}, {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
};
constexpr struct {
  const char* path;
  const char* target;
} kLinks[] = {
    {"/dev/fd", "/proc/self/fd"},
    {"/dev/stdin", "/proc/self/fd/0"},
    {"/dev/stdout", "/proc/self/fd/1"},
    {"/dev/stderr", "/proc/self/fd/2"},
};

Result<Node> node_of(const oci::Device& device) {
  Node node{
      .path = device.path, .mode = device.file_mode.value_or(0666) & 07777, .uid = device.uid.value_or(0), .gid = device.gid.value_or(0)};
  if (device.type == "c" || device.type == "u") {
    node.type = S_IFCHR;
  } else if (device.type == "b") {
    node.type = S_IFBLK;
  } else if (device.type == "p") {
    node.type = S_IFIFO;
    return node;
  } else {
    return make_error(EINVAL, "type \"{}\" is not one of b, c, u, p", device.type);
  }
  node.number = makedev(static_cast<unsigned>(device.major), static_cast<unsigned>(device.minor));
  return node;
}

bool is_device(int fd, const Node& node) {
  struct stat info;
  return fstat(fd, &info) == 0 && (info.st_mode & S_IFMT) == node.type && (node.type == S_IFIFO || info.st_rdev == node.number);
}

// The host's node of the same path, over a file made for it.
Result<void> bind_host_device(int root, const Node& node) {
  const UniqueFd host_node(open(node.path.c_str(), O_PATH | O_CLOEXEC));
  if (!host_node) return errno_error("cannot make a node, and the host has none to bind");
  if (!is_device(host_node.get(), node)) return make_error(ENODEV, "cannot make a node, and the host's {} is another device", node.path);
  const UniqueFd tree = TRY(host::clone_mount(host_node.get(), "", false));
  const host::RootedPath target = TRY(host::open_in_root(root, node.path, host::Missing::MakeFile));
  return host::attach_mount(tree.get(), target.fd.get());
}

Result<void> make_node(int root, const Node& node) {
  const host::RootedParent parent = TRY(host::open_parent_in_root(root, node.path));
  const char* name = parent.name.c_str();
  if (mknodat(parent.folder.get(), name, node.type | node.mode, node.number) == 0) {
    if ((node.uid != 0 || node.gid != 0) && fchownat(parent.folder.get(), name, node.uid, node.gid, AT_SYMLINK_NOFOLLOW) != 0)
      return errno_error("cannot set its owner");
    return {};
  }
  if (errno == EEXIST) {
    // What the image or a mount has there stays if it is the device; a plain file of that name (some image tools leave such) is covered by
    // the device.
    auto present = host::open_in_root(root, node.path);
    if (present && is_device(present->fd.get(), node)) return {};
    if (node.type == S_IFIFO) return make_error(EEXIST, "there is another file of that name");
    return bind_host_device(root, node);
  }
  if (errno != EPERM && errno != EACCES) return errno_error("cannot make the node");
  return bind_host_device(root, node);
}

// What is already there stays.
Result<void> make_link(int root, const char* path, const char* target) {
  const host::RootedParent parent = TRY(host::open_parent_in_root(root, path));
  if (symlinkat(target, parent.folder.get(), parent.name.c_str()) == 0 || errno == EEXIST) return {};
  return errno_error("cannot make the link {}", path);
}

Result<void> link_ptmx(int root) {
  const host::RootedParent parent = TRY(host::open_parent_in_root(root, "/dev/ptmx"));
  if (unlinkat(parent.folder.get(), "ptmx", 0) != 0 && errno != ENOENT && errno != EBUSY) return errno_error("cannot replace /dev/ptmx");
  if (symlinkat("pts/ptmx", parent.folder.get(), "ptmx") != 0 && errno != EEXIST) return errno_error("cannot make the link /dev/ptmx");
  return {};
}

}  // namespace

bool makes_devices(const oci::Spec& spec) {
  for (const oci::Mount& mount : spec.mounts) {
    std::string destination = mount.destination;
    while (destination.size() > 1 && destination.ends_with('/')) destination.pop_back();
    if (destination == "/dev" && plan_mount(mount).bind) return false;
  }
  return true;
}

Result<void> make_devices(const oci::Spec& spec, int root) {
  const mode_t old_mask = umask(0);
  auto done = [&]() -> Result<void> {
    for (const auto& row : kDefaults) {
      auto made =
          make_node(root, {.path = row.path, .type = S_IFCHR, .number = makedev(row.major, row.minor), .mode = 0666, .uid = 0, .gid = 0});
      if (!made) return std::move(made).error().within(row.path);
    }
    for (size_t index = 0; index < spec.linux_.devices.size(); ++index) {
      const oci::Device& device = spec.linux_.devices[index];
      auto node = node_of(device);
      auto made = node ? make_node(root, *node) : Result<void>(std::move(node).error());
      if (!made) return std::move(made).error().within(fmt::format("linux.devices[{}] ({})", index, device.path));
    }
    return {};
  }();
  umask(old_mask);
  TRY(std::move(done));
  TRY(link_ptmx(root));
  for (const auto& row : kLinks) TRY(make_link(root, row.path, row.target));
  if (access("/proc/kcore", F_OK) == 0) TRY(make_link(root, "/dev/core", "/proc/kcore"));
  return {};
}

}  // namespace caisson::container
