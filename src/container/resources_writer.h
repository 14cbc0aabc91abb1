// Internal to resources*.cc: writing one limit, with errors that name the member of config.json; and the conversions from v1's values to
// v2's.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "host/cgroup.h"
#include "oci/spec.h"

namespace caisson::container {

// A cgroup seen as the place where linux.resources.<member> goes.
class ResourceWriter {
 public:
  explicit ResourceWriter(const host::CgroupPaths& paths) : paths_(paths) {}

  bool v1() const { return paths_.version == host::CgroupVersion::V1; }
  // Where files of a controller are; EINVAL naming the member where the controller is missing.
  Result<std::string> folder(const char* controller, std::string_view member) const;
  bool has(const char* controller, std::string_view file) const;
  // Writes; ENOENT becomes EINVAL saying that this node's cgroups cannot do it.
  Result<void> set(const char* controller, std::string_view file, std::string_view value, std::string_view member) const;
  std::optional<uint64_t> number(const char* controller, std::string_view file) const;

 private:
  const host::CgroupPaths& paths_;
};

// A warning about a limit that is not applied, once per member and process.
void warn_unapplied(std::string_view member, std::string_view why);

Result<void> apply_v1(const ResourceWriter& writer, const oci::Resources& resources);
Result<void> apply_v2(const ResourceWriter& writer, const oci::Resources& resources);

// cpu.shares (2 to 262144) to cpu.weight (1 to 10000), runc's and the kubelet's formula; 0 stays 0.
uint64_t weight_from_shares(uint64_t shares);
// blkio.weight (10 to 1000) to io.weight (1 to 10000); 0 stays 0.
uint64_t io_weight_from_blkio(uint64_t weight);
// memory.swap.max from memory plus swap (-1: unlimited) and memory; nullopt: leave it alone. EINVAL names linux.resources.memory.swap.
Result<std::optional<int64_t>> swap_without_memory(int64_t memory_and_swap, int64_t memory);
// A number as cgroup v2 writes it: -1 is "max".
std::string number_or_max(int64_t value);
// EINVAL unless it has the kernel's form of a size of huge pages: "64KB", "2MB", "1GB".
Result<void> check_page_size(const std::string& size);
// EINVAL unless it is the name of a file in the cgroup's folder.
Result<void> check_unified_name(const std::string& name);

}  // namespace caisson::container
