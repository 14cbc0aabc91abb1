// What a kernel process tells of its processes, on its way, and in the numbers of the node.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "kernel.pb.h"
#include "kernel/control/messages.h"
#include "sandbox/process.h"

namespace caisson::appkernel {

// Asks over the control channel. execs: the number of an exec to its exec_id; limits: what the kernel has been told last; beside: the
// kernel process is not in the container's cgroup, which does not count what it holds for the container.
Result<std::unique_ptr<sandbox::KernelAnswer>> ask_kernel(int channel, kernel::Question question, std::map<int, std::string> execs,
                                                          const kernel::v1::Limits& limits, bool beside);

// The answer's processes as ListProcesses has them. A process's pid is that of the node's process that stands for it: the container's first
// one's and each exec's stand-in, else its stub. hosts: numbers of the kernel's PID namespace to the node's; init: the kernel process.
// Pure.
sandbox::v1::DebugResponse translate_processes(const kernel::v1::Processes& answer, const std::map<int, std::string>& execs,
                                               const std::map<std::string, pid_t>& stand_ins, const std::map<pid_t, pid_t>& hosts,
                                               pid_t init, int64_t now_unix_nanos);

}  // namespace caisson::appkernel
