#include "microvm/vm_size.h"

#include <algorithm>
#include <charconv>
#include <string_view>

namespace caisson::microvm {
namespace {

constexpr uint64_t kMib = 1 << 20;
// What a VMM and its helpers use besides the guest's memory: QEMU's own, translated code, virtiofsd, page tables.
constexpr uint64_t kVmmMib = 384;
// No guest is larger: a limit beyond any machine means "none" (podman and Kubernetes write such).
constexpr uint64_t kLargestMib = 4 << 20;
constexpr int64_t kMisc = 10, kKvm = 232;  // of /dev/kvm (Documentation/admin-guide/devices.txt)

uint64_t number(std::string_view text) {
  uint64_t value = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size() ? value : 0;
}

uint64_t annotation(const oci::Spec& spec, const char* name) {
  auto found = spec.annotations.find(name);
  return found == spec.annotations.end() ? 0 : number(found->second);
}

uint64_t mib(uint64_t bytes) { return bytes / kMib + (bytes % kMib != 0); }

}  // namespace

uint32_t cpus_in_list(std::string_view list) {
  uint64_t count = 0;
  while (!list.empty()) {
    std::string_view part = list.substr(0, list.find(','));
    list.remove_prefix(std::min(part.size() + 1, list.size()));
    size_t dash = part.find('-');
    uint32_t first = 0, last = 0;
    auto read = [](std::string_view text, uint32_t& value) {
      auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
      return code == std::errc() && end == text.data() + text.size();
    };
    if (!read(part.substr(0, dash), first)) return 0;
    if (dash == part.npos)
      last = first;
    else if (!read(part.substr(dash + 1), last) || last < first)
      return 0;
    count += uint64_t{last} - first + 1;
  }
  return static_cast<uint32_t>(std::min<uint64_t>(count, UINT32_MAX));
}

uint32_t most_vcpus(const sandbox::MicrovmConfig& settings, uint32_t node_cpus) {
  return std::max(settings.max_vcpus > 0 ? std::min(settings.max_vcpus, node_cpus) : node_cpus, 1U);
}

VmSize size_vm(const oci::Spec& spec, const sandbox::MicrovmConfig& settings, uint32_t node_cpus) {
  uint64_t limit = annotation(spec, "io.kubernetes.cri.sandbox-memory");
  uint64_t quota = annotation(spec, "io.kubernetes.cri.sandbox-cpu-quota");
  uint64_t period = annotation(spec, "io.kubernetes.cri.sandbox-cpu-period");
  uint32_t listed = 0;
  if (spec.linux_.resources) {
    const oci::Resources& resources = *spec.linux_.resources;
    if (limit == 0 && resources.memory.limit.value_or(-1) > 0) limit = static_cast<uint64_t>(*resources.memory.limit);
    if (quota == 0 && resources.cpu.quota.value_or(-1) > 0) {
      quota = static_cast<uint64_t>(*resources.cpu.quota);
      period = resources.cpu.period.value_or(0);
    }
    listed = cpus_in_list(resources.cpu.cpus);
  }
  VmSize size;
  bool limited = limit > 0 && mib(limit) < kLargestMib;
  size.memory_mib =
      std::max(limited ? mib(limit) + settings.memory_overhead_mib : settings.default_memory_mib, settings.minimum_memory_mib);
  uint64_t vcpus = settings.default_vcpus;
  if (period == 0) period = 100'000;  // the kernel's default
  if (quota > 0)
    vcpus = quota / period + (quota % period != 0);
  else if (listed > 0)
    vcpus = listed;
  size.vcpus = static_cast<uint32_t>(std::clamp<uint64_t>(vcpus, 1, most_vcpus(settings, node_cpus)));
  return size;
}

bool is_size_told(const oci::Spec& spec) {
  return annotation(spec, "io.kubernetes.cri.sandbox-memory") > 0 || annotation(spec, "io.kubernetes.cri.sandbox-cpu-quota") > 0;
}

VmSize size_for_all(const VmSize& start, const std::vector<const oci::Spec*>& containers, const sandbox::MicrovmConfig& settings,
                    uint32_t node_cpus) {
  constexpr uint64_t kThousandth = 1000;
  uint64_t memory = 0, cpus = 0;  // MiB, thousandths
  bool any_without = false;
  for (const oci::Spec* spec : containers) {
    static const oci::Resources kNone;
    const oci::Resources& resources = spec->linux_.resources ? *spec->linux_.resources : kNone;
    const int64_t limit = resources.memory.limit.value_or(-1);
    const bool limited = limit > 0 && mib(static_cast<uint64_t>(limit)) < kLargestMib;
    if (limited) memory += mib(static_cast<uint64_t>(limit));
    any_without |= !limited;
    const uint64_t period = resources.cpu.period.value_or(100'000);
    if (resources.cpu.quota.value_or(-1) > 0 && period > 0) cpus += static_cast<uint64_t>(*resources.cpu.quota) * kThousandth / period;
  }
  // The default is a whole machine's, the guest's own part included.
  memory += any_without ? settings.default_memory_mib : settings.memory_overhead_mib;
  VmSize size = start;
  if (!containers.empty()) size.memory_mib = std::max(start.memory_mib, memory);
  const uint64_t most = most_vcpus(settings, node_cpus);
  size.vcpus = std::max(start.vcpus, static_cast<uint32_t>(std::min((cpus + kThousandth - 1) / kThousandth, most)));
  return size;
}

oci::Resources vmm_resources(const oci::Spec& spec, const VmSize& size) {
  oci::Resources vmm;
  // The filter of its cgroup would keep it from KVM. Where it runs by emulation its jail has no such file.
  vmm.devices.push_back({.allow = true, .type = "c", .major = kMisc, .minor = kKvm, .access = "rw"});
  if (!spec.linux_.resources) return vmm;
  vmm.cpu = spec.linux_.resources->cpu;
  vmm.cpu.realtime_runtime.reset();
  vmm.cpu.realtime_period.reset();
  if (spec.linux_.resources->memory.limit.value_or(-1) > 0) vmm.memory.limit = static_cast<int64_t>((size.memory_mib + kVmmMib) * kMib);
  return vmm;
}

}  // namespace caisson::microvm
