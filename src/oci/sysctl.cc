// "linux.sysctl": only what belongs to a namespace of the container may be set, as in runc.
#include <algorithm>

#include "oci/parse.h"
#include "oci/sections.h"

namespace caisson::oci {
namespace {

struct SysctlRule {
  std::string_view name;  // with a dot at the end: a prefix
  const char* namespace_type;
};
constexpr SysctlRule kRules[] = {
    {"kernel.msgmax", "ipc"}, {"kernel.msgmnb", "ipc"}, {"kernel.msgmni", "ipc"},     {"kernel.sem", "ipc"},
    {"kernel.shmall", "ipc"}, {"kernel.shmmax", "ipc"}, {"kernel.shmmni", "ipc"},     {"kernel.shm_rmid_forced", "ipc"},
    {"fs.mqueue.", "ipc"},    {"net.", "network"},      {"kernel.domainname", "uts"},
};

// sysctl(8): where the first separator is a slash, slashes and dots change places ("net/ipv4/conf/eth0.1/x" is "net.ipv4.conf.eth0/1.x").
std::string dotted(std::string name) {
  size_t first = name.find_first_of("./");
  if (first == std::string::npos || name[first] == '.') return name;
  for (char& c : name) c = c == '/' ? '.' : c == '.' ? '/' : c;
  return name;
}

// No part of the path may be "", "." or "..", which would lead elsewhere.
bool is_safe(std::string_view path) {
  if (std::any_of(path.begin(), path.end(), [](unsigned char c) { return c <= ' ' || c == 0x7f; })) return false;
  for (;;) {
    size_t slash = path.find('/');
    std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == path.npos) return true;
    path.remove_prefix(slash + 1);
  }
}

}  // namespace

std::string sysctl_path(const std::string& name) {
  std::string path = dotted(name);
  for (char& c : path) c = c == '/' ? '.' : c == '.' ? '/' : c;
  return path;
}

void check_sysctl(const Node& node, const Spec& spec) {
  node.each_member([&](const std::string& key, const Node& element) {
    std::string name = dotted(key);
    if (!is_safe(sysctl_path(key))) return element.fail("is not the name of a kernel parameter");
    if (name == "kernel.hostname") return element.fail("is set by the member hostname");
    auto rule = std::find_if(std::begin(kRules), std::end(kRules), [&](const SysctlRule& row) {
      return row.name.ends_with('.') ? std::string_view(name).starts_with(row.name) : name == row.name;
    });
    if (rule == std::end(kRules)) return element.fail("belongs to no namespace: it would change the whole node");
    if (!spec.find_namespace(rule->namespace_type))
      element.fail(fmt::format("needs a namespace of type {} in linux.namespaces", rule->namespace_type));
  });
}

}  // namespace caisson::oci
