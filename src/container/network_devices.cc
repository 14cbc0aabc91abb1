#include "container/network_devices.h"

#include "host/namespaces.h"
#include "host/network_move.h"

namespace caisson::container {

Result<void> move_network_devices(const oci::Spec& spec, pid_t pid) {
  if (spec.linux_.net_devices.empty()) return {};
  const host::NamespaceType& type = *host::find_namespace_type("network");
  const UniqueFd target = TRY(host::open_namespace(type, fmt::format("/proc/{}/ns/net", pid)));
  const UniqueFd own = TRY(host::own_namespace(type));
  if (TRY(host::same_namespace(target.get(), own.get())))
    return make_error(EINVAL, "linux.netDevices: the container's network namespace is the host's");
  for (const auto& [name, device] : spec.linux_.net_devices) {
    auto moved = host::move_interface(name, target.get(), device.name.empty() ? name : device.name);
    if (!moved) return std::move(moved).error().within("linux.netDevices");
  }
  return {};
}

}  // namespace caisson::container
