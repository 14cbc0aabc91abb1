// How large a virtual machine must be for what its first container asks.
#pragma once

#include <cstdint>
#include <vector>

#include "oci/spec.h"
#include "sandbox/config.h"

namespace caisson::microvm {

struct VmSize {
  uint32_t vcpus = 1;
  uint64_t memory_mib = 256;
};

// Memory: linux.resources.memory.limit, or for a pod's sandbox what the annotation io.kubernetes.cri.sandbox-memory (bytes) says, with the
// configured overhead for the guest's own kernel; without a limit the default. Never less than the minimum. vCPUs: enough for the CPU quota
// (or the sandbox-cpu-quota and -period annotations), or as many as linux.resources.cpu.cpus lists; never more than the node has or the
// configuration allows.
VmSize size_vm(const oci::Spec& spec, const sandbox::MicrovmConfig& settings, uint32_t node_cpus);

// So many a machine may have: as many as the node has, or fewer where the configuration says so.
uint32_t most_vcpus(const sandbox::MicrovmConfig& settings, uint32_t node_cpus);

// Whether an engine has told how large the pod will be, all its containers together: the sandbox-memory and sandbox-cpu annotations.
bool is_size_told(const oci::Spec& spec);

// What a machine that has been made with `start` must have for all these containers of a pod, each with its specification: the sum of their
// limits, and on top the default where some have none, else the overhead. Never less than start.
VmSize size_for_all(const VmSize& start, const std::vector<const oci::Spec*>& containers, const sandbox::MicrovmConfig& settings,
                    uint32_t node_cpus);

// How many CPUs a list names ("0-3,8"); 0: it cannot be read.
uint32_t cpus_in_list(std::string_view list);

// The host's cgroup for the VMM: the container's own limits, but for memory at least what the machine needs.
oci::Resources vmm_resources(const oci::Spec& spec, const VmSize& size);

}  // namespace caisson::microvm
