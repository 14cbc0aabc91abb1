#include "container/checks.h"

#include "container/sysctl.h"
#include "host/namespaces.h"

namespace caisson::container {
namespace {

Result<void> check_namespaces(const oci::Spec& spec) {
  for (const oci::Namespace& ns : spec.linux_.namespaces)
    if (host::find_namespace_type(ns.type) == nullptr) return make_error(EINVAL, "linux.namespaces: \"{}\" is not a type of namespace", ns.type);
  const oci::Namespace* user = spec.find_namespace("user");
  const bool has_maps = !spec.linux_.uid_mappings.empty() || !spec.linux_.gid_mappings.empty();
  if (has_maps && user == nullptr) return make_error(EINVAL, "linux.uidMappings: needs a user namespace in linux.namespaces");
  if (user != nullptr && user->path.empty() && (spec.linux_.uid_mappings.empty() || spec.linux_.gid_mappings.empty()))
    return make_error(EINVAL, "linux.uidMappings, linux.gidMappings: a new user namespace needs both");
  if (!spec.linux_.time_offsets.empty()) {
    const oci::Namespace* time = spec.find_namespace("time");
    if (time == nullptr || !time->path.empty()) return make_error(EINVAL, "linux.timeOffsets: needs a new time namespace in linux.namespaces");
  }
  return {};
}

// Without a namespace of the container's own these would change the host.
Result<void> check_owned(const oci::Spec& spec) {
  const bool has_mount = spec.find_namespace("mount") != nullptr, has_uts = spec.find_namespace("uts") != nullptr;
  if (!has_uts && !spec.hostname.empty()) return make_error(EINVAL, "hostname: needs a uts namespace in linux.namespaces");
  if (!has_uts && !spec.domainname.empty()) return make_error(EINVAL, "domainname: needs a uts namespace in linux.namespaces");
  if (!has_mount && !spec.mounts.empty()) return make_error(EINVAL, "mounts: need a mount namespace in linux.namespaces");
  if (!has_mount && !(spec.linux_.masked_paths.empty() && spec.linux_.readonly_paths.empty()))
    return make_error(EINVAL, "linux.maskedPaths, linux.readonlyPaths: need a mount namespace in linux.namespaces");
  if (!has_mount && spec.root.readonly) return make_error(EINVAL, "root.readonly: needs a mount namespace in linux.namespaces");
  if (spec.find_namespace("network") == nullptr && !spec.linux_.net_devices.empty()) return make_error(EINVAL, "linux.netDevices: need a network namespace in linux.namespaces");
  return check_sysctls(spec);
}

}  // namespace

Result<void> check_spec(const oci::Spec& spec, const Stdio& stdio) {
  if (!spec.has_process) return make_error(EINVAL, "process: must be there to create a container");
  if (spec.root.path.empty()) return make_error(EINVAL, "root.path: must be set");
  if (spec.process.terminal && !stdio.console_socket) return make_error(EINVAL, "process.terminal: is set, but there is no console socket to send the terminal to");
  if (spec.linux_.intel_rdt) return make_error(ENOTSUP, "linux.intelRdt: cannot be honoured by this runtime; remove it");
  TRY(check_namespaces(spec));
  return check_owned(spec);
}

}  // namespace caisson::container
