// All TCP connections that are made inside a network namespace, to whatever local address and port, caught by one listener.
//
// A BPF program of type sk_lookup (Documentation/bpf/prog_sk_lookup.rst, Linux 5.9) attached to the namespace hands each new connection to
// it. Nothing is configured in the namespace, and nothing can be left behind: the program goes with its descriptor.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::host {

struct CaughtConnections {
  UniqueFd listener;  // non-blocking; getsockname(2) of what it accepts is the address and port that the client asked for
  UniqueFd link;      // keeps the program attached
};

// For the calling process's network namespace. Needs CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_ADMIN; EPERM, ENOSYS or EINVAL where the kernel
// or its settings do not allow it.
Result<CaughtConnections> catch_connections();

}  // namespace caisson::host
