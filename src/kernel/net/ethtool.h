// SIOCETHTOOL: what a network device can do, as tcpdump(8), nmap(1) and ethtool(8) ask for it.
#pragma once

#include "kernel/task/task.h"

namespace caisson::kernel {

// fd: any socket of the network; administrator: the guest task may configure that. Only what everybody may ask natively and what is of a
// fixed size goes to the host. EPERM: the guest task would need CAP_NET_ADMIN; EOPNOTSUPP: with it, there is no such thing here.
Result<long> ethtool_ioctl(Task& task, int fd, uint64_t argument, bool administrator);

}  // namespace caisson::kernel
