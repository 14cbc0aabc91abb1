#include "kernel/fs/dev/device_rules.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "kernel/task/kernel.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
bool rules_allow(const std::vector<DeviceRule>& rules, mode_t type, dev_t device, uint32_t access) {
  const auto covers = [&](const DeviceRule& rule) {
    return ((type & S_IFMT) == S_IFBLK ? rule.block : rule.character) && (rule.major < 0 || rule.major == major(device)) &&
           (rule.minor < 0 || rule.minor == minor(device));
  };
  for (auto rule = rules.rbegin(); rule != rules.rend() && access != 0; ++rule) {
    if (!covers(*rule) || (rule->access & access) == 0) continue;
    if (!rule->allow) return false;
    access &= ~rule->access;
  }
  return access == 0;
}

bool device_allowed(const Task& task, mode_t type, dev_t device, uint32_t access) {
  if (task.group->container == nullptr) return true;
  const auto rules = task.group->container->limits().devices;
  return !rules || rules->empty() || rules_allow(*rules, type, device, access);
}

}  // namespace caisson::kernel
