// Which containers of a pod live in one kernel process: those whose specification joins namespaces of a container that has one, as engines
// write it for all but the first container of a pod.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "oci/spec.h"

namespace caisson::appkernel {

// A container that lives in a kernel process.
struct Resident {
  std::string kernel_of;  // id of the container that its kernel process was made for; its own where it came first
  pid_t kernel = 0;       // that process, on the node
  pid_t pid = 0;          // of the stand-in of its first process, on the node; 0: not made yet
  uint64_t bounding = 0;  // capabilities that its processes may have
  bool user_namespace = false;
};
using Residents = std::map<std::string, Resident>;  // by id

// Ids of the containers whose namespaces it shares; "": of none.
struct Sharing {
  std::string kernel_of, pid_of, ipc_of, uts_of;
};
// By the paths in linux.namespaces: "/proc/PID/ns/..." of a resident, or what is the same namespace of the node's. Reads /proc.
Sharing find_sharing(const oci::Spec& spec, const Residents& residents);

// Why a container cannot live in the kernel process of `first`; nothing: it can. Capabilities are no reason: a kernel process has none that
// only some containers may use, but by its network broker, and gets another one of those where a container may have more (House::join).
std::optional<std::string> obstacle(const oci::Spec& spec, const Resident& first);

}  // namespace caisson::appkernel
