// Attaching a device filter to a v2 cgroup (bpf(2), BPF_CGROUP_DEVICE).
#pragma once

#include <linux/bpf.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::host {

// Loads a BPF_PROG_TYPE_CGROUP_DEVICE program. The error has the end of what the kernel's verifier says.
Result<UniqueFd> load_device_program(const std::vector<bpf_insn>& program);

// Makes it the folder's only device filter; those that were there are replaced without a moment in which there is none. A filter stays for
// as long as its cgroup.
Result<void> set_device_program(const std::string& folder, int program);

// Ids of the device filters attached to the folder itself.
Result<std::vector<uint32_t>> device_programs(const std::string& folder);

}  // namespace caisson::host
