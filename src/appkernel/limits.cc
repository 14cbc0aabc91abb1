#include "appkernel/limits.h"

#include <algorithm>
#include <charconv>

#include "container/device_rules.h"
#include "container/resources_writer.h"

namespace caisson::appkernel {
namespace {

// Threads of the kernel process that are no task's, the zygote, stubs kept ready, and what stands for execs.
constexpr int64_t kOwnProcesses = 64;
constexpr int64_t kMostPids = 1 << 22;

int64_t on_the_node(int64_t pids) { return 3 * std::min(pids, kMostPids) + kOwnProcesses; }

// "max" and what is no number: no limit.
std::optional<int64_t> number_of(std::string_view text) {
  int64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc() || value < 0) return std::nullopt;
  return value;
}

}  // namespace

void Limits::apply_memory(const oci::MemoryResources& memory) {
  if (memory.limit) {
    limits_.clear_memory();
    if (*memory.limit > 0) limits_.set_memory(*memory.limit);
  }
  if (memory.reservation) {
    limits_.clear_memory_low();
    if (*memory.reservation > 0) limits_.set_memory_low(*memory.reservation);
  }
  if (memory.swap) memory_and_swap_ = *memory.swap > 0 ? memory.swap : std::nullopt;
  limits_.clear_swap();
  if (memory_and_swap_ && limits_.has_memory()) limits_.set_swap(std::max<int64_t>(0, *memory_and_swap_ - limits_.memory()));
}

// The files of version 2 that say the same (linux.resources.unified).
void Limits::apply_unified(std::map<std::string, std::string>& unified) {
  if (const auto row = unified.find("memory.max"); row != unified.end()) {
    limits_.clear_memory();
    if (const auto value = number_of(row->second)) limits_.set_memory(*value);
  }
  if (const auto row = unified.find("pids.max"); row != unified.end()) {
    limits_.clear_pids();
    if (const auto value = number_of(row->second)) {
      limits_.set_pids(*value);
      row->second = std::to_string(on_the_node(*value));
    }
  }
}

// Errors of theirs are told by who makes the cgroup.
void Limits::apply_devices(const std::vector<oci::DeviceCgroup>& devices) {
  if (devices.empty() && limits_.devices_size() != 0) return;
  const auto rules = container::device_rules(devices);
  if (!rules) return;
  limits_.clear_devices();
  for (const container::DeviceRule& rule : *rules) {
    auto* to = limits_.add_devices();
    to->set_allow(rule.allow);
    to->set_character(rule.type != 'b');
    to->set_block(rule.type != 'c');
    to->set_major(rule.major);
    to->set_minor(rule.minor);
    to->set_access(rule.access);
  }
}

void Limits::apply(oci::Resources& resources) {
  apply_devices(resources.devices);
  apply_memory(resources.memory);
  const oci::CpuResources& cpu = resources.cpu;
  if (cpu.quota) {
    limits_.clear_cpu_quota();
    if (*cpu.quota > 0) limits_.set_cpu_quota(*cpu.quota);
  }
  if (cpu.period && *cpu.period > 0 && *cpu.period <= INT64_MAX) limits_.set_cpu_period(static_cast<int64_t>(*cpu.period));
  if (cpu.shares && *cpu.shares > 0) limits_.set_cpu_weight(static_cast<int64_t>(container::weight_from_shares(*cpu.shares)));
  if (resources.pids_limit) {
    limits_.clear_pids();
    if (*resources.pids_limit > 0) {
      limits_.set_pids(*resources.pids_limit);
      resources.pids_limit = on_the_node(*resources.pids_limit);
    }
  }
  apply_unified(resources.unified);
}

}  // namespace caisson::appkernel
