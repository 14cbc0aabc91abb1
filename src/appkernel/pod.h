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
  std::string kernel_of;  // id of the container whose kernel process that is; its own where it came first
  pid_t pid = 0;          // of its first process on the node; 0: not made yet
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

// Why a container whose processes may have those capabilities cannot live in the kernel process of `first`; nothing: it can.
std::optional<std::string> obstacle(const oci::Spec& spec, uint64_t bounding, const Resident& first);

}  // namespace caisson::appkernel
