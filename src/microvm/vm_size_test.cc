#include "microvm/vm_size.h"

#include <gtest/gtest.h>

namespace caisson::microvm {
namespace {

oci::Spec with_memory(int64_t bytes) {
  oci::Spec spec;
  spec.linux_.resources.emplace();
  spec.linux_.resources->memory.limit = bytes;
  return spec;
}

TEST(VmSize, MemoryFromTheLimitWithOverheadAndFloor) {
  sandbox::MicrovmConfig settings;
  EXPECT_EQ(size_vm({}, settings, 4).memory_mib, settings.default_memory_mib);
  EXPECT_EQ(size_vm(with_memory(512 << 20), settings, 4).memory_mib, 512 + settings.memory_overhead_mib);
  EXPECT_EQ(size_vm(with_memory((512 << 20) + 1), settings, 4).memory_mib, 513 + settings.memory_overhead_mib);
  EXPECT_EQ(size_vm(with_memory(4 << 20), settings, 4).memory_mib, settings.minimum_memory_mib);
  EXPECT_EQ(size_vm(with_memory(-1), settings, 4).memory_mib, settings.default_memory_mib);
  EXPECT_EQ(size_vm(with_memory(INT64_MAX), settings, 4).memory_mib, settings.default_memory_mib);
}

TEST(VmSize, VcpusFromQuotaOrList) {
  sandbox::MicrovmConfig settings;
  oci::Spec spec = with_memory(-1);
  EXPECT_EQ(size_vm(spec, settings, 8).vcpus, 1u);
  spec.linux_.resources->cpu.quota = 250'000;
  spec.linux_.resources->cpu.period = 100'000;
  EXPECT_EQ(size_vm(spec, settings, 8).vcpus, 3u);
  EXPECT_EQ(size_vm(spec, settings, 2).vcpus, 2u);
  settings.max_vcpus = 1;
  EXPECT_EQ(size_vm(spec, settings, 8).vcpus, 1u);
  settings.max_vcpus = 0;
  spec.linux_.resources->cpu.quota.reset();
  spec.linux_.resources->cpu.cpus = "0-1,5";
  EXPECT_EQ(size_vm(spec, settings, 8).vcpus, 3u);
}

TEST(VmSize, APodsAnnotationsGoBeforeTheSandboxContainersLimits) {
  oci::Spec spec = with_memory(1 << 20);
  spec.annotations = {{"io.kubernetes.cri.sandbox-memory", "1073741824"},
                      {"io.kubernetes.cri.sandbox-cpu-quota", "200000"},
                      {"io.kubernetes.cri.sandbox-cpu-period", "100000"}};
  sandbox::MicrovmConfig settings;
  EXPECT_EQ(size_vm(spec, settings, 8).memory_mib, 1024 + settings.memory_overhead_mib);
  EXPECT_EQ(size_vm(spec, settings, 8).vcpus, 2u);
}

TEST(VmSize, CpuLists) {
  EXPECT_EQ(cpus_in_list(""), 0u);
  EXPECT_EQ(cpus_in_list("7"), 1u);
  EXPECT_EQ(cpus_in_list("0-3,8,10-11"), 7u);
  EXPECT_EQ(cpus_in_list("3-1"), 0u);
  EXPECT_EQ(cpus_in_list("x"), 0u);
  EXPECT_EQ(cpus_in_list("0-4294967295"), UINT32_MAX);
}

TEST(VmSize, TheVmmsCgroupHasRoomForTheMachine) {
  oci::Spec spec = with_memory(64 << 20);
  spec.linux_.resources->cpu.shares = 512;
  oci::Resources vmm = vmm_resources(spec, {.vcpus = 1, .memory_mib = 160});
  EXPECT_GE(*vmm.memory.limit, 160 << 20);
  EXPECT_EQ(vmm.cpu.shares, 512u);
  EXPECT_FALSE(vmm_resources({}, {}).memory.limit.has_value());
  for (const oci::Resources& resources : {vmm, vmm_resources({}, {})}) {
    ASSERT_EQ(resources.devices.size(), 1u) << "/dev/kvm, which its cgroup would not let it open";
    EXPECT_TRUE(resources.devices[0].allow);
    EXPECT_EQ(resources.devices[0].minor, 232);
  }
}

TEST(VmSize, AllContainersOfAPodTogether) {
  sandbox::MicrovmConfig settings;
  settings.memory_overhead_mib = 96;
  settings.default_memory_mib = 256;
  const VmSize start{.vcpus = 1, .memory_mib = 256};
  const auto limited = [](int64_t mib, int64_t quota) {
    oci::Spec spec;
    spec.linux_.resources.emplace().memory.limit = mib << 20;
    spec.linux_.resources->cpu.quota = quota;
    spec.linux_.resources->cpu.period = 100'000;
    return spec;
  };
  const oci::Spec large = limited(300, 150'000), small = limited(200, 60'000), without;
  EXPECT_EQ(size_for_all(start, {}, settings, 8).memory_mib, 256u);
  EXPECT_EQ(size_for_all(start, {&small}, settings, 8).memory_mib, 296u);
  const VmSize both = size_for_all(start, {&large, &small}, settings, 8);
  EXPECT_EQ(both.memory_mib, 596u);
  EXPECT_EQ(both.vcpus, 3u) << "2.1 CPUs";
  EXPECT_EQ(size_for_all(start, {&large, &small}, settings, 2).vcpus, 2u);
  EXPECT_EQ(size_for_all(start, {&large, &without, &without}, settings, 8).memory_mib, 300u + 256u) << "the default once";
  EXPECT_EQ(size_for_all({.vcpus = 4, .memory_mib = 2048}, {&large}, settings, 8).memory_mib, 2048u) << "never smaller";
}

TEST(VmSize, WhetherItIsTold) {
  oci::Spec spec;
  EXPECT_FALSE(is_size_told(spec));
  spec.annotations["io.kubernetes.cri.sandbox-memory"] = "0";
  EXPECT_FALSE(is_size_told(spec));
  spec.annotations["io.kubernetes.cri.sandbox-memory"] = "1048576";
  EXPECT_TRUE(is_size_told(spec));
}

}  // namespace
}  // namespace caisson::microvm
