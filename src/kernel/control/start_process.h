// From a description to a process of the guest.
#pragma once

#include <vector>

#include "kernel/task/kernel.h"

namespace caisson::kernel {

namespace v1 {
class Process;
class Start;
}  // namespace v1

// Standard streams at 0, 1, 2 and the preserved descriptors from kFirstPreservedFd on, taken away from there (0 to 2 become /dev/null).
std::vector<UniqueFd> take_streams(unsigned preserved);

// fds: standard streams, then the preserved ones.
Result<Kernel::Started> start_with(Kernel& kernel, Container& container, const v1::Process& description, std::vector<UniqueFd> fds);
// fds: the description first.
Result<Kernel::Started> start_described(Kernel& kernel, Container& container, std::vector<UniqueFd> fds);

// How the host has made the process's stand-in.
Scheduling scheduling_of(const v1::Process& process);

// linux.seccomp as Start carries it; null: none. EINVAL.
Result<std::shared_ptr<const SeccompState>> configured_seccomp(const v1::Start& start);

}  // namespace caisson::kernel
