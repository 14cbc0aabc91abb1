// linux.resources on cgroup version 1 (the kernel's admin-guide/cgroup-v1/).
#include "base/log.h"
#include "container/resources_writer.h"
#include "host/cgroup_files.h"

namespace caisson::container {
namespace {

// Engines send 0 for "not set" in every one of these.
template <typename T>
bool given(const std::optional<T>& value) {
  return value && *value != 0;
}

Result<void> set_memory_limit(const ResourceWriter& writer, int64_t limit) {
  if (limit == 0) return {};
  Result<void> done = writer.set("memory", "memory.limit_in_bytes", std::to_string(limit), "memory.limit");
  if (done.ok() || done.error().code() != EBUSY) return done;
  return make_error(EBUSY, "linux.resources.memory.limit: cannot be set to {}: {} bytes are in use and cannot be freed", limit,
                    writer.number("memory", "memory.usage_in_bytes").value_or(0));
}

Result<void> set_swap_limit(const ResourceWriter& writer, int64_t swap) {
  if (swap == 0) return {};
  if (!writer.has("memory", "memory.memsw.limit_in_bytes") && writer.has("memory", "memory.limit_in_bytes")) {
    if (swap > 0) warn_unapplied("memory.swap", "this kernel does not count swap per cgroup (boot it with swapaccount=1)");
    return {};
  }
  return writer.set("memory", "memory.memsw.limit_in_bytes", std::to_string(swap), "memory.swap");
}

// The kernel keeps memory <= memory plus swap at any time, so the order depends on the direction.
Result<void> set_memory_and_swap(const ResourceWriter& writer, const oci::MemoryResources& memory) {
  int64_t limit = memory.limit.value_or(0), swap = memory.swap.value_or(0);
  if (limit == -1 && swap == 0) swap = -1;  // unlimited memory with limited swap makes no sense; runc's rule
  if (memory.check_before_update.value_or(false) && limit > 0) {
    uint64_t usage = writer.number("memory", "memory.usage_in_bytes").value_or(0);
    if (usage > static_cast<uint64_t>(limit))
      return make_error(EBUSY, "linux.resources.memory.limit: {} is below what is in use now ({}), and checkBeforeUpdate is set", limit,
                        usage);
  }
  uint64_t now = writer.number("memory", "memory.limit_in_bytes").value_or(0);
  bool swap_first = limit != 0 && swap != 0 && (swap == -1 || now < static_cast<uint64_t>(swap));
  if (swap_first) {
    TRY(set_swap_limit(writer, swap));
    return set_memory_limit(writer, limit);
  }
  TRY(set_memory_limit(writer, limit));
  return set_swap_limit(writer, swap);
}

// Kernel memory limits have been deprecated for long and do nothing from Linux 5.16 on: never worth failing for.
void set_kernel_memory(const ResourceWriter& writer, const char* file, int64_t value, const char* member) {
  Result<void> done = writer.set("memory", file, std::to_string(value), member);
  if (!done.ok()) warn_unapplied(member, done.error().message());
}

Result<void> set_memory(const ResourceWriter& writer, const oci::MemoryResources& memory) {
  TRY(set_memory_and_swap(writer, memory));
  if (given(memory.kernel)) set_kernel_memory(writer, "memory.kmem.limit_in_bytes", *memory.kernel, "memory.kernel");
  if (given(memory.kernel_tcp)) set_kernel_memory(writer, "memory.kmem.tcp.limit_in_bytes", *memory.kernel_tcp, "memory.kernelTCP");
  if (given(memory.reservation))
    TRY(writer.set("memory", "memory.soft_limit_in_bytes", std::to_string(*memory.reservation), "memory.reservation"));
  if (memory.swappiness && *memory.swappiness != UINT64_MAX) {
    if (*memory.swappiness > 100)
      return make_error(EINVAL, "linux.resources.memory.swappiness: must be from 0 to 100, is {}", *memory.swappiness);
    TRY(writer.set("memory", "memory.swappiness", std::to_string(*memory.swappiness), "memory.swappiness"));
  }
  if (memory.disable_oom_killer) {
    std::string folder = TRY(writer.folder("memory", "memory.disableOOMKiller"));
    uint64_t wanted = *memory.disable_oom_killer ? 1 : 0;
    if (host::read_cgroup_table(folder, "memory.oom_control")["oom_kill_disable"] != wanted)
      TRY(writer.set("memory", "memory.oom_control", std::to_string(wanted), "memory.disableOOMKiller"));
  }
  if (memory.use_hierarchy && writer.number("memory", "memory.use_hierarchy").value_or(1) != (*memory.use_hierarchy ? 1u : 0u)) {
    Result<void> done = writer.set("memory", "memory.use_hierarchy", *memory.use_hierarchy ? "1" : "0", "memory.useHierarchy");
    if (!done.ok()) warn_unapplied("memory.useHierarchy", done.error().message());
  }
  return {};
}

Result<void> set_shares(const ResourceWriter& writer, uint64_t shares) {
  TRY(writer.set("cpu", "cpu.shares", std::to_string(shares), "cpu.shares"));
  uint64_t taken = writer.number("cpu", "cpu.shares").value_or(shares);  // the kernel clamps without a word
  if (taken != shares)
    return make_error(EINVAL, "linux.resources.cpu.shares: the {} allowed is {}, is {}", shares > taken ? "maximum" : "minimum", taken,
                      shares);
  return {};
}

// Each of the three may be refused (EINVAL) for as long as the old values of the others stand, so what the quota stands in the way of is
// tried again after it.
Result<void> set_bandwidth(const ResourceWriter& writer, const oci::CpuResources& cpu) {
  auto period = [&] { return writer.set("cpu", "cpu.cfs_period_us", std::to_string(*cpu.period), "cpu.period"); };
  auto burst = [&] { return writer.set("cpu", "cpu.cfs_burst_us", std::to_string(*cpu.burst), "cpu.burst"); };
  bool again_period = false, again_burst = false;
  if (given(cpu.period)) {
    if (Result<void> done = period(); !done.ok()) {
      if (done.error().code() != EINVAL || !given(cpu.quota)) return done;
      again_period = true;
    }
  }
  if (cpu.burst) {
    if (Result<void> done = burst(); !done.ok()) {
      if (done.error().code() != EINVAL || !given(cpu.quota)) return done;
      again_burst = true;
    }
  }
  if (given(cpu.quota)) TRY(writer.set("cpu", "cpu.cfs_quota_us", std::to_string(*cpu.quota), "cpu.quota"));
  if (again_period) TRY(period());
  if (again_burst) TRY(burst());
  return {};
}

Result<void> set_cpu(const ResourceWriter& writer, const oci::CpuResources& cpu) {
  if (given(cpu.shares)) TRY(set_shares(writer, *cpu.shares));
  TRY(set_bandwidth(writer, cpu));
  if (given(cpu.realtime_period)) TRY(writer.set("cpu", "cpu.rt_period_us", std::to_string(*cpu.realtime_period), "cpu.realtimePeriod"));
  if (given(cpu.realtime_runtime))
    TRY(writer.set("cpu", "cpu.rt_runtime_us", std::to_string(*cpu.realtime_runtime), "cpu.realtimeRuntime"));
  if (cpu.idle) TRY(writer.set("cpu", "cpu.idle", std::to_string(*cpu.idle), "cpu.idle"));
  if (!cpu.cpus.empty()) TRY(writer.set("cpuset", "cpuset.cpus", cpu.cpus, "cpu.cpus"));
  if (!cpu.mems.empty()) TRY(writer.set("cpuset", "cpuset.mems", cpu.mems, "cpu.mems"));
  return {};
}

Result<void> set_throttles(const ResourceWriter& writer, const std::vector<oci::ThrottleDevice>& devices, const char* file,
                           const char* member) {
  for (const oci::ThrottleDevice& device : devices)
    TRY(writer.set("blkio", file, fmt::format("{}:{} {}", device.major, device.minor, device.rate), member));
  return {};
}

Result<void> set_block_io(const ResourceWriter& writer, const oci::BlockIoResources& io) {
  // With the BFQ scheduler the files have its name in them, and there are no leaf weights.
  bool plain = writer.has("blkio", "blkio.weight") || !writer.has("blkio", "blkio.bfq.weight");
  const char* weight = plain ? "blkio.weight" : "blkio.bfq.weight";
  const char* weight_device = plain ? "blkio.weight_device" : "blkio.bfq.weight_device";
  if (given(io.weight)) TRY(writer.set("blkio", weight, std::to_string(*io.weight), "blockIO.weight"));
  if (given(io.leaf_weight)) TRY(writer.set("blkio", "blkio.leaf_weight", std::to_string(*io.leaf_weight), "blockIO.leafWeight"));
  for (const oci::WeightDevice& device : io.weight_device) {
    std::string name = fmt::format("{}:{}", device.major, device.minor);
    if (given(device.weight)) TRY(writer.set("blkio", weight_device, fmt::format("{} {}", name, *device.weight), "blockIO.weightDevice"));
    if (given(device.leaf_weight))
      TRY(writer.set("blkio", "blkio.leaf_weight_device", fmt::format("{} {}", name, *device.leaf_weight), "blockIO.weightDevice"));
  }
  TRY(set_throttles(writer, io.throttle_read_bps, "blkio.throttle.read_bps_device", "blockIO.throttleReadBpsDevice"));
  TRY(set_throttles(writer, io.throttle_write_bps, "blkio.throttle.write_bps_device", "blockIO.throttleWriteBpsDevice"));
  TRY(set_throttles(writer, io.throttle_read_iops, "blkio.throttle.read_iops_device", "blockIO.throttleReadIOPSDevice"));
  return set_throttles(writer, io.throttle_write_iops, "blkio.throttle.write_iops_device", "blockIO.throttleWriteIOPSDevice");
}

}  // namespace

Result<void> apply_v1(const ResourceWriter& writer, const oci::Resources& resources) {
  if (!resources.unified.empty())
    return make_error(EINVAL, "linux.resources.unified: is for cgroup version 2, and this node has version 1");
  TRY(set_memory(writer, resources.memory));
  TRY(set_cpu(writer, resources.cpu));
  if (given(resources.pids_limit)) TRY(writer.set("pids", "pids.max", number_or_max(*resources.pids_limit), "pids.limit"));
  TRY(set_block_io(writer, resources.block_io));
  for (const oci::HugepageLimit& limit : resources.hugepage_limits) {
    TRY(check_page_size(limit.page_size));
    TRY(writer.set("hugetlb", fmt::format("hugetlb.{}.limit_in_bytes", limit.page_size), std::to_string(limit.limit), "hugepageLimits"));
  }
  if (given(resources.network.class_id))
    TRY(writer.set("net_cls", "net_cls.classid", std::to_string(*resources.network.class_id), "network.classID"));
  for (const auto& [name, priority] : resources.network.priorities)
    TRY(writer.set("net_prio", "net_prio.ifpriomap", fmt::format("{} {}", name, priority), "network.priorities"));
  for (const auto& [device, limit] : resources.rdma) {
    std::string value = device;
    if (limit.hca_handles) value += fmt::format(" hca_handle={}", *limit.hca_handles);
    if (limit.hca_objects) value += fmt::format(" hca_object={}", *limit.hca_objects);
    TRY(writer.set("rdma", "rdma.max", value, "rdma"));
  }
  return {};
}

}  // namespace caisson::container
