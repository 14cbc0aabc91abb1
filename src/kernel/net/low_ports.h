// Ports that a guest may bind with CAP_NET_BIND_SERVICE only. The kernel process asks for the capability itself (on the host it may bind
// every port of the pod's network, control/confine.h), so the setting is its own, too (NetworkNamespace::first_unprivileged_port).
#pragma once

#include <string_view>

#include "kernel/errno.h"

namespace caisson::kernel {

inline constexpr const char* kLowPortsSetting = "net/ipv4/ip_unprivileged_port_start";  // below /proc/sys

// As it is written into the file or config.json. EINVAL: it is not a number from 0 to 65535.
Result<int> parse_first_unprivileged_port(std::string_view text);

}  // namespace caisson::kernel
