// Proof that this process may make what a container of `namespace` isolation is made of.
#pragma once

#include <string>

#include "base/result.h"

namespace caisson::microvm {

// Makes a process in new PID, mount, network, IPC, UTS and cgroup namespaces with a root file system, /proc and a device of its own. The
// error names what this node refuses.
Result<void> prove_namespaces();
// Makes a cgroup with a process in it and removes it. What layout it found: "version 2", "version 1 (cpu, memory, pids)".
Result<std::string> prove_cgroups();

}  // namespace caisson::microvm
