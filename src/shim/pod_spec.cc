#include "shim/pod_spec.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "oci/parse.h"

namespace caisson::shim {
namespace {

using Json = nlohmann::json;

constexpr int kNobody = 65535;  // what Kubernetes' own pause runs as

Result<containerd::PodSandboxConfig> pod_config(const containerd::Any& options) {
  containerd::PodSandboxConfig config;
  if (!options.type_url().ends_with("PodSandboxConfig")) return config;
  if (!config.ParseFromString(options.value())) return make_error(EINVAL, "options: malformed PodSandboxConfig");
  return config;
}

Json namespaces_of(const containerd::NamespaceOption& modes, const std::string& netns_path) {
  Json namespaces = {{{"type", "mount"}}, {{"type", "pid"}}};
  if (modes.ipc() != containerd::NODE) namespaces.push_back({{"type", "ipc"}});
  if (modes.network() == containerd::NODE) return namespaces;
  namespaces.push_back({{"type", "uts"}});
  Json network = {{"type", "network"}};
  if (!netns_path.empty()) network["path"] = netns_path;
  namespaces.push_back(network);
  return namespaces;
}

// The size of the pod, in the words in which containerd's podsandbox mode would say it.
void add_size(Json& annotations, const containerd::LinuxPodSandboxConfig& linux_config) {
  const containerd::LinuxContainerResources& resources = linux_config.resources();
  auto add = [&](const char* name, int64_t value) {
    const std::string key = std::string("io.kubernetes.cri.sandbox-") + name;
    if (value > 0 && !annotations.contains(key)) annotations[key] = std::to_string(value);
  };
  add("cpu-period", resources.cpu_period());
  add("cpu-quota", resources.cpu_quota());
  add("cpu-shares", resources.cpu_shares());
  if (resources.memory_limit_in_bytes() > 0)
    add("memory", resources.memory_limit_in_bytes() + std::max<int64_t>(linux_config.overhead().memory_limit_in_bytes(), 0));
}

// Of a whole config.json only this one string is kept: the shim is to stay small. Empty for what is no JSON, which others will say.
std::string cgroups_path_of(const std::string& spec) {
  auto wanted = [](int depth, Json::parse_event_t event, Json& parsed) {
    if (event != Json::parse_event_t::key) return true;
    return depth == 1 ? parsed == "linux" : depth != 2 || parsed == "cgroupsPath";
  };
  const Json kept = Json::parse(spec, wanted, /*allow_exceptions=*/false);
  if (!kept.is_object() || !kept.contains("linux") || !kept["linux"].is_object()) return "";
  const auto path = kept["linux"].find("cgroupsPath");
  return path != kept["linux"].end() && path->is_string() ? path->get<std::string>() : "";
}

}  // namespace

void set_spec(sandbox::v1::CreateContainerRequest& create, std::string spec) {
  const std::string path = cgroups_path_of(spec);
  const bool has_slice = path.substr(0, path.find(':')).ends_with(".slice") && path.find('/') == std::string::npos;
  create.set_systemd_cgroup(has_slice && std::count(path.begin(), path.end(), ':') == 2);
  create.set_spec(std::move(spec));
}

Result<std::string> make_pod_spec(const containerd::CreateSandboxRequest& request, const std::string& program) {
  const containerd::PodSandboxConfig pod = TRY(pod_config(request.options()));
  const containerd::NamespaceOption& modes = pod.linux_config().security_context().namespace_options();
  Json annotations = Json::object();
  for (const auto& [name, value] : pod.annotations()) annotations[name] = value;
  for (const auto& [name, value] : request.annotations()) annotations[name] = value;
  annotations["io.kubernetes.cri.container-type"] = "sandbox";
  annotations["io.kubernetes.cri.sandbox-id"] = request.sandbox_id();
  add_size(annotations, pod.linux_config());
  Json spec = {
      {"ociVersion", oci::kSpecVersion},
      {"root", {{"path", "rootfs"}, {"readonly", true}}},
      {"process",
       {{"args", {kPauseProgram}},
        {"cwd", "/"},
        {"env", Json::array()},
        {"user", {{"uid", kNobody}, {"gid", kNobody}}},
        {"capabilities", Json::object()},
        {"noNewPrivileges", true}}},
      {"mounts", {{{"destination", kPauseProgram}, {"type", "bind"}, {"source", program}, {"options", {"bind", "ro", "nosuid", "nodev"}}}}},
      {"annotations", annotations},
      {"linux", {{"namespaces", namespaces_of(modes, request.netns_path())}}},
  };
  if (modes.network() != containerd::NODE && !pod.hostname().empty()) spec["hostname"] = pod.hostname();
  for (const auto& [name, value] : pod.linux_config().sysctls()) spec["linux"]["sysctl"][name] = value;
  if (!pod.linux_config().cgroup_parent().empty()) {
    // systemd's slices are named otherwise: "<slice>:<prefix>:<name>".
    const std::string& parent = pod.linux_config().cgroup_parent();
    spec["linux"]["cgroupsPath"] = parent.ends_with(".slice")
                                       ? parent.substr(parent.rfind('/') + 1) + ":cri-containerd:" + request.sandbox_id()
                                       : parent + "/" + request.sandbox_id();
  }
  return spec.dump(-1, ' ', false, Json::error_handler_t::replace);
}

int run_pause() {
  sigset_t signals;
  sigemptyset(&signals);
  for (int number : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&signals, number);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  for (;;) {
    int number = 0;
    if (sigwait(&signals, &number) != 0 || number != SIGCHLD) return 0;
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }
}

}  // namespace caisson::shim
