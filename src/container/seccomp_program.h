// A seccomp filter's machine code (classic BPF, Documentation/userspace-api/seccomp_filter.rst) from rules in numbers: pure.
//
// libseccomp takes 25 ms to compile an engine's usual profile for its usual three architectures, a third of a container's whole start; this
// takes a fraction of a millisecond, and the tests hold its programs against libseccomp's. The system calls of an architecture are cut into
// ranges of equal answer, which a binary search finds.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <map>
#include <vector>

namespace caisson::container {

enum class SeccompCompare { NotEqual, Less, LessOrEqual, Equal, GreaterOrEqual, Greater, MaskedEqual };

struct SeccompCheck {
  uint32_t index = 0;  // 0 to 5
  SeccompCompare compare = SeccompCompare::Equal;
  uint64_t value = 0;      // MaskedEqual: the mask
  uint64_t value_two = 0;  // MaskedEqual: what the masked argument must be
};

// An answer (SECCOMP_RET_*) where all checks hold.
struct SeccompRule {
  uint32_t answer = 0;
  std::vector<SeccompCheck> checks;
};

struct SeccompArchitecture {
  uint32_t audit_arch = 0;     // AUDIT_ARCH_*
  bool x32 = false;            // shares x86_64's audit_arch and is told by bit 30 of the number
  bool wide_arguments = true;  // 64 bits, else the upper halves are not looked at
  // By system call number. A rule without checks wins over those with; among those the first that holds.
  std::map<uint32_t, std::vector<SeccompRule>> calls;
};

// otherwise: the answer to calls without a rule that holds. unknown: the answer to numbers above the largest that has a rule: calls that
// the profile's author cannot have known. A call through an architecture that is not listed kills the thread.
std::vector<sock_filter> seccomp_program(const std::vector<SeccompArchitecture>& architectures, uint32_t otherwise, uint32_t unknown);

}  // namespace caisson::container
