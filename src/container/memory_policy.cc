#include "container/memory_policy.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <string_view>

namespace caisson::container {
namespace {

struct Name {
  std::string_view name;
  int value;
};
constexpr Name kModes[] = {{"MPOL_DEFAULT", MPOL_DEFAULT},       {"MPOL_PREFERRED", MPOL_PREFERRED}, {"MPOL_BIND", MPOL_BIND},
                           {"MPOL_INTERLEAVE", MPOL_INTERLEAVE}, {"MPOL_LOCAL", MPOL_LOCAL},         {"MPOL_PREFERRED_MANY", 5},
                           {"MPOL_WEIGHTED_INTERLEAVE", 6}};
constexpr Name kFlags[] = {{"MPOL_F_NUMA_BALANCING", 1 << 13}, {"MPOL_F_RELATIVE_NODES", 1 << 14}, {"MPOL_F_STATIC_NODES", 1 << 15}};
constexpr unsigned kMaxNodes = 1024;
using NodeMask = std::array<unsigned long, kMaxNodes / 64>;

template <size_t N>
Result<int> value_of(const Name (&table)[N], const std::string& name, const char* member) {
  for (const Name& row : table)
    if (row.name == name) return row.value;
  return make_error(EINVAL, "linux.memoryPolicy.{}: \"{}\" is not known", member, name);
}

Result<unsigned> parse_node(std::string_view text, const std::string& list) {
  unsigned value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || value >= kMaxNodes)
    return make_error(EINVAL, "linux.memoryPolicy.nodes: \"{}\" is not a list of nodes", list);
  return value;
}

Result<NodeMask> parse_nodes(const std::string& list) {
  NodeMask mask{};
  const std::string_view text = list;
  for (size_t start = 0; !text.empty() && start <= text.size();) {
    const size_t end = std::min(text.find(',', start), text.size());
    const std::string_view part = text.substr(start, end - start);
    const size_t dash = part.find('-');
    const unsigned first = TRY(parse_node(part.substr(0, dash), list));
    const unsigned last = dash == std::string_view::npos ? first : TRY(parse_node(part.substr(dash + 1), list));
    for (unsigned node = first; node <= last; ++node) mask[node / 64] |= 1UL << node % 64;
    start = end + 1;
  }
  return mask;
}

}  // namespace

Result<void> set_memory_policy(const oci::Spec& spec) {
  if (!spec.linux_.memory_policy) return {};
  const oci::MemoryPolicy& policy = *spec.linux_.memory_policy;
  int mode = TRY(value_of(kModes, policy.mode, "mode"));
  for (const std::string& flag : policy.flags) mode |= TRY(value_of(kFlags, flag, "flags"));
  const NodeMask nodes = TRY(parse_nodes(policy.nodes));
  const bool has_nodes = !policy.nodes.empty();
  if (syscall(SYS_set_mempolicy, mode, has_nodes ? nodes.data() : nullptr, has_nodes ? kMaxNodes + 1 : 0) != 0)
    return errno_error("linux.memoryPolicy: cannot set {}", policy.mode);
  return {};
}

}  // namespace caisson::container
