#include "kernel/fs/dev/device_rules.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <map>
#include <memory>
#include <mutex>

#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

using Rules = std::shared_ptr<const std::vector<DeviceRule>>;

// Containers live as long as the kernel does.
struct Table {
  std::mutex lock;
  std::map<const Container*, Rules> rules;
};
Table& table() {
  static auto* const one = new Table;
  return *one;
}

}  // namespace

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

void set_device_rules(const Container& container, std::vector<DeviceRule> rules) {
  Table& all = table();
  std::lock_guard guard(all.lock);
  all.rules[&container] = std::make_shared<const std::vector<DeviceRule>>(std::move(rules));
}

bool device_allowed(const Task& task, mode_t type, dev_t device, uint32_t access) {
  if (task.group->container == nullptr) return true;
  Rules rules;
  {
    Table& all = table();
    std::lock_guard guard(all.lock);
    const auto found = all.rules.find(task.group->container);
    if (found == all.rules.end() || found->second->empty()) return true;
    rules = found->second;
  }
  return rules_allow(*rules, type, device, access);
}

}  // namespace caisson::kernel
