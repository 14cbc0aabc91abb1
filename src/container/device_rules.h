// linux.resources.devices: what a container may do with device nodes, as the two kernels' interfaces want it. Pure.
#pragma once

#include <linux/bpf.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::container {

constexpr uint32_t kMknod = 1, kRead = 2, kWrite = 4;  // the kernel's bits (linux/bpf.h, BPF_DEVCG_ACC_*)

// One rule after defaults have been filled in; -1 is every number, type 'a' both kinds.
struct DeviceRule {
  bool allow = false;
  char type = 'a';
  int64_t major = -1, minor = -1;
  uint32_t access = kMknod | kRead | kWrite;
};

// Everything denied, then the specification's rules in their order, then runc's defaults: nodes may be made, and the standard ones used.
// The later rule counts. Errors name linux.resources.devices[i].
Result<std::vector<DeviceRule>> device_rules(const std::vector<oci::DeviceCgroup>& devices);

// The rules as a BPF_PROG_TYPE_CGROUP_DEVICE program: exact, each access bit decided by the last rule that covers it.
std::vector<bpf_insn> device_program(const std::vector<DeviceRule>& rules);

// The rules as version 1 has them: a default and a list of exceptions from it ("c 1:3 rw").
struct DeviceList {
  bool allow_by_default = false;
  std::vector<std::string> exceptions;  // sorted
};
// EINVAL for a rule that v1 cannot express: one that takes a part out of an earlier wildcard.
Result<DeviceList> device_list(const std::vector<DeviceRule>& rules);
// The same from the text of devices.list.
DeviceList parse_device_list(std::string_view text);

}  // namespace caisson::container
