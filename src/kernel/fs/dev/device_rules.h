// What a container may do with which devices (linux.resources.devices), as a device cgroup has it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace caisson::kernel {

class Task;

inline constexpr uint32_t kDeviceMake = 1, kDeviceRead = 2, kDeviceWrite = 4;

// A number of -1 is every number.
struct DeviceRule {
  bool allow = false, character = false, block = false;
  int64_t major = -1, minor = -1;
  uint32_t access = 0;
};

// Each bit of `access` is decided by the last rule that covers it; one that none covers is refused.
bool rules_allow(const std::vector<DeviceRule>& rules, mode_t type, dev_t device, uint32_t access);

// By the rules of the task's container (CgroupLimits); those who have a device open keep it.
bool device_allowed(const Task& task, mode_t type, dev_t device, uint32_t access);

}  // namespace caisson::kernel
