// Limits: what the sandbox says that a container may use, for all who ask inside: the view of its cgroup, /proc/meminfo and sysinfo(2), the
// list of CPUs. The node's cgroups make them hold; only the number of processes is counted by the kernel itself (Container::most_tasks),
// and what devices may be used is its own to say (fs/dev/device_rules.h).
//
// Locks: a leaf of its own, and Kernel::tasks in container_memory().
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace caisson::kernel {

class Cgroup;
class Task;
struct DeviceRule;

// As version 2 of cgroups counts.
struct CgroupLimits {
  int64_t memory = -1;  // bytes; -1: no limit
  int64_t memory_low = 0;
  int64_t swap = -1;       // bytes of swap alone
  int64_t cpu_quota = -1;  // microseconds of `cpu_period`
  int64_t cpu_period = 100000;
  int64_t pids = -1;
  int64_t cpu_weight = 100;
  std::shared_ptr<const std::vector<DeviceRule>> devices;  // null, or none: everything is allowed
};
// Those of the container whose task the calling thread serves; none where it serves none.
CgroupLimits cgroup_limits();

// Whether its memory is limited to less than the machine has.
bool limits_memory(const CgroupLimits& limits);

// As many of these CPUs as the quota is good for, rounded up: what a program should make threads for. At least one.
std::vector<int> visible_of(std::vector<int> cpus);
// Of those that the kernel process may use.
std::vector<int> usable_cpus();
std::vector<int> visible_cpus();
// "0-3,6\n"
std::string cpu_list_text(const std::vector<int>& cpus);
// The CPUs of an affinity mask of so many bytes.
std::vector<int> cpus_of_mask(const char* mask, size_t bytes);

// Bytes of memory that the processes of the task's container have for themselves.
uint64_t container_memory(Task& task);
// Of the processes of one group and of those below it (task/cgroup.h), without what the kernel holds for them (kernel/held.h).
uint64_t guest_memory(Task& task, const Cgroup& group);
struct CpuUse {
  uint64_t user_ns = 0, system_ns = 0;  // in the guest's own processes
  uint64_t kernel_ns = 0;               // of the kernel process, for them
};
// Processor time of a group, with what has ended in it. The container's own group has all of the kernel process's time.
CpuUse cpu_use(Task& task, const Cgroup& group);
// Bytes that the container may use and has not; `limit` is that of its memory.
uint64_t memory_left(Task& task, int64_t limit);

// The host's /proc/meminfo and /proc/cpuinfo as a container with limits is to see them.
std::string limited_meminfo(Task& task, const CgroupLimits& limits);
std::string limited_cpuinfo(std::string_view host);

}  // namespace caisson::kernel
