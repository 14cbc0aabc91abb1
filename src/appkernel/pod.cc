#include "appkernel/pod.h"

#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>

#include <array>

namespace caisson::appkernel {
namespace {

// What names a namespace of the node's.
std::optional<std::pair<dev_t, ino_t>> identity(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  return std::pair(status.st_dev, status.st_ino);
}

const char* proc_name(const std::string& type) { return type == "network" ? "net" : type.c_str(); }

std::string namespace_of(pid_t pid, const std::string& type) { return fmt::format("/proc/{}/ns/{}", pid, proc_name(type)); }

// The resident whose namespace the path leads to. All of a kernel process are in its PID namespace on the node, so that the name counts
// first.
std::string resident_at(const std::string& path, const std::string& type, const Residents& residents) {
  for (const auto& [id, resident] : residents)
    if (resident.pid != 0 && path == namespace_of(resident.pid, type)) return id;
  // Of a process that is nobody's here.
  int pid = 0, end = 0;
  if (type == "pid" && sscanf(path.c_str(), "/proc/%d/ns/pid%n", &pid, &end) == 1 && end == static_cast<int>(path.size())) return "";
  const auto wanted = identity(path);
  std::string found;
  for (const auto& [id, resident] : residents) {
    if (!wanted || resident.pid == 0 || identity(namespace_of(resident.pid, type)) != wanted) continue;
    if (resident.kernel_of == id) return id;
    if (found.empty()) found = id;
  }
  return found;
}

bool same_network(const oci::Spec& spec, const Resident& first) {
  const oci::Namespace* network = spec.find_namespace("network");
  if (network != nullptr && network->path.empty()) return false;
  const auto wanted = identity(network != nullptr ? network->path : "/proc/self/ns/net");
  return wanted && identity(namespace_of(first.kernel, "network")) == wanted;
}

bool same_user_namespace(const oci::Spec& spec, const Resident& first) {
  const oci::Namespace* user = spec.find_namespace("user");
  if (user == nullptr || !first.user_namespace) return user == nullptr && !first.user_namespace;
  const auto wanted = identity(user->path);
  return wanted && identity(namespace_of(first.kernel, "user")) == wanted;
}

// Clocks are the host's of the kernel process and the zygotes, whose vDSO answers.
bool same_time(const oci::Spec& spec, const Resident& first) {
  const oci::Namespace* time = spec.find_namespace("time");
  if (time != nullptr && time->path.empty()) return false;
  return identity(time != nullptr ? time->path : "/proc/self/ns/time") == identity(namespace_of(first.kernel, "time"));
}

}  // namespace

Sharing find_sharing(const oci::Spec& spec, const Residents& residents) {
  Sharing sharing;
  const std::array<std::pair<const char*, std::string*>, 3> kinds = {
      {{"pid", &sharing.pid_of}, {"ipc", &sharing.ipc_of}, {"uts", &sharing.uts_of}}};
  for (const auto& [type, of] : kinds) {
    const oci::Namespace* ns = spec.find_namespace(type);
    if (ns == nullptr || ns->path.empty()) continue;
    const std::string id = resident_at(ns->path, type, residents);
    if (id.empty()) continue;
    const std::string& kernel = residents.at(id).kernel_of;
    if (sharing.kernel_of.empty()) sharing.kernel_of = kernel;
    if (sharing.kernel_of == kernel) *of = id;
  }
  return sharing;
}

std::optional<std::string> obstacle(const oci::Spec& spec, const Resident& first) {
  if (!same_network(spec, first)) return "its network namespace is another one";
  if (!same_user_namespace(spec, first)) return "its user namespace is another one";
  if (!same_time(spec, first)) return "its time namespace is another one";
  return std::nullopt;
}

}  // namespace caisson::appkernel
