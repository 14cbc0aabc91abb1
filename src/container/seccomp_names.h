// System calls and architectures by name, as linux.seccomp has them, to the numbers that a filter sees.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "container/seccomp_program.h"

namespace caisson::container {

struct SeccompTarget {
  uint32_t token = 0;  // libseccomp's SCMP_ARCH_*
  SeccompArchitecture architecture;
};

// This machine's own architecture and those of the list that it can run. Others of the specification's (a profile lists those of all
// machines) are accepted and have no effect: no call can come through them. EINVAL for a name that the specification does not have.
Result<std::vector<SeccompTarget>> seccomp_targets(const std::vector<std::string>& names);

// Adds the rules to the call of that name; false when there is none on the architecture. effective: false only makes the number known
// (seccomp_program's `unknown`). The calls that 32-bit x86 also reaches through socketcall(2) and ipc(2) get rules for these.
bool add_seccomp_call(const SeccompTarget& target, const std::string& name, const std::vector<SeccompRule>& rules, bool effective,
                      SeccompArchitecture& into);

}  // namespace caisson::container
