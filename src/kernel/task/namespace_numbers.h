// Numbers of namespaces that stand for namespaces of the host.
//
// What a container on Linux sees of its namespaces are the numbers that the node sees, and pairs of processes are compared by them. So
// the first namespaces of a container show those of the host's namespaces that were made for it alone, and the network, time and user
// namespace those of the host's that they are. What the host has for others too (an ipc namespace that config.json does not ask for) is
// another thing here, and shows a number of its own.
#pragma once

#include <cstdint>
#include <map>

#include "kernel/task/namespaces.h"

namespace caisson::kernel {

// While it lives, the next namespace of each kind that this thread makes has this number.
class AdoptedNumbers {
 public:
  explicit AdoptedNumbers(std::map<NamespaceKind, uint64_t> numbers);
  ~AdoptedNumbers();
  AdoptedNumbers(const AdoptedNumbers&) = delete;
  AdoptedNumbers& operator=(const AdoptedNumbers&) = delete;
};

// Of this process's namespace of that kind, on the host. Before the kernel process is confined. 0: the host has no such kind.
uint64_t host_namespace_number(const char* name);
// The network, time and initial user namespace become those of this process; before anybody has asked for one of them.
void adopt_host_namespaces();

}  // namespace caisson::kernel
