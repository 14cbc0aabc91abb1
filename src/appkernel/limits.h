// A container's limits divided: the node's cgroups make them hold, the application kernel tells of them and counts processes itself. Pure.
#pragma once

#include <optional>

#include "kernel.pb.h"
#include "oci/spec.h"

namespace caisson::appkernel {

class Limits {
 public:
  // Lays resources over what held before. Their limit of processes becomes that of the node's processes, which are more: each thread of the
  // guest is one of its stub and one of the kernel process.
  void apply(oci::Resources& resources);
  const kernel::v1::Limits& described() const { return limits_; }

 private:
  void apply_devices(const std::vector<oci::DeviceCgroup>& devices);
  void apply_memory(const oci::MemoryResources& memory);
  void apply_unified(std::map<std::string, std::string>& unified);
  kernel::v1::Limits limits_;
  std::optional<int64_t> memory_and_swap_;
};

}  // namespace caisson::appkernel
