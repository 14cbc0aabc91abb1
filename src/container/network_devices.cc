#include "container/network_devices.h"

namespace caisson::container {

Result<void> move_network_devices(const oci::Spec& spec, pid_t pid) {
  (void)pid;
  if (spec.linux_.net_devices.empty()) return {};
  return make_error(ENOTSUP, "linux.netDevices: interface {} cannot be moved yet", spec.linux_.net_devices.begin()->first);
}

}  // namespace caisson::container
