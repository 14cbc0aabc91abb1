#include "cli/do_spec.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <nlohmann/json.hpp>

#include "oci/parse.h"

namespace caisson::cli {
namespace {

using Json = nlohmann::ordered_json;

// Of the caller's environment only what describes the session goes in: the rest may hold secrets, and --env gives it.
constexpr const char* kInherited[] = {"PATH", "HOME", "USER", "SHELL", "TERM", "COLORTERM", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ"};
constexpr const char* kDefaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
// These have file systems of their own inside.
constexpr const char* kOwnFolders[] = {"/proc", "/sys", "/dev", "/run", "/tmp"};
// Those that engines give a container (docker's default list).
constexpr const char* kCapabilities[] = {
    "CAP_CHOWN",  "CAP_DAC_OVERRIDE", "CAP_FSETID",  "CAP_FOWNER",           "CAP_MKNOD",      "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP",      "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",    "CAP_AUDIT_WRITE"};
constexpr const char* kMasked[] = {"/proc/acpi",       "/proc/asound",      "/proc/kcore",       "/proc/keys", "/proc/latency_stats",
                                   "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"};
constexpr const char* kReadonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

bool is_below(const std::string& path, const std::string& folder) {
  return path == folder || (path.size() > folder.size() && path.compare(0, folder.size(), folder) == 0 && path[folder.size()] == '/');
}

Result<std::string> absolute(const std::string& option, const std::string& path) {
  std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), free);
  if (!real) return errno_error("{} {}", option, path);
  return std::string(real.get());
}

Json mount(const char* destination, const char* type, const char* source, std::vector<std::string> options) {
  return {{"destination", destination}, {"type", type}, {"source", source}, {"options", std::move(options)}};
}

Json own_mounts() {
  return Json::array({mount("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}),
                      mount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
                      mount("/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
                      mount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777"}),
                      mount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
                      mount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}),
                      mount("/tmp", "tmpfs", "tmpfs", {"nosuid", "nodev", "mode=1777"}),
                      mount("/run", "tmpfs", "tmpfs", {"nosuid", "nodev", "mode=755"})});
}

struct Bind {
  std::string source, destination;
  bool readonly = false;
};

Result<Bind> parse_volume(const std::string& text) {
  size_t colon = text.find(':');
  if (colon == std::string::npos || colon == 0) return make_error(EINVAL, "--volume {}: must be SRC:DST or SRC:DST:ro", text);
  Bind bind;
  bind.source = TRY(absolute("--volume", text.substr(0, colon)));
  bind.destination = text.substr(colon + 1);
  size_t mode = bind.destination.rfind(':');
  if (mode != std::string::npos) {
    std::string name = bind.destination.substr(mode + 1);
    if (name != "ro" && name != "rw") return make_error(EINVAL, "--volume {}: \"{}\" must be ro or rw", text, name);
    bind.readonly = name == "ro";
    bind.destination.erase(mode);
  }
  if (bind.destination.empty() || bind.destination[0] != '/')
    return make_error(EINVAL, "--volume {}: the destination must be an absolute path", text);
  return bind;
}

Result<std::vector<Bind>> binds_of(const DoOptions& options) {
  std::vector<Bind> binds;
  for (const std::string& folder : options.rw) {
    std::string path = TRY(absolute("--rw", folder));
    if (path == "/") return Error(EINVAL, "--rw /: that would give all of this machine away; name the folders that are needed");
    binds.push_back({path, path, false});
  }
  for (const std::string& volume : options.volumes) binds.push_back(TRY(parse_volume(volume)));
  return binds;
}

// The caller's current folder, if what the sandbox has at that path is the same.
std::string default_cwd(const std::vector<Bind>& binds) {
  std::array<char, 4096> buffer;
  if (getcwd(buffer.data(), buffer.size()) == nullptr || buffer[0] != '/') return "/";
  std::string path = buffer.data();
  for (const Bind& bind : binds)
    if (bind.source == bind.destination && is_below(path, bind.destination)) return path;
  for (const char* folder : kOwnFolders)
    if (is_below(path, folder)) return "/";
  struct stat here {
  }, root{};
  // Other file systems than the root's are not part of the overlay.
  return stat(path.c_str(), &here) == 0 && stat("/", &root) == 0 && here.st_dev == root.st_dev ? path : "/";
}

std::vector<std::string> environment(const DoOptions& options) {
  std::vector<std::string> env;
  if (getenv("PATH") == nullptr) env.push_back(kDefaultPath);
  auto inherit = [&env](const std::string& name) {
    if (const char* value = getenv(name.c_str())) env.push_back(name + "=" + value);
  };
  for (const char* name : kInherited) inherit(name);
  for (const std::string& variable : options.env) {
    if (variable.find('=') == std::string::npos) {
      inherit(variable);
    } else {
      env.push_back(variable);
    }
  }
  return env;
}

Json process_of(const DoOptions& options, const std::vector<Bind>& binds) {
  Json capabilities = Json::object();
  for (const char* set : {"bounding", "effective", "permitted"}) capabilities[set] = kCapabilities;
  return {{"terminal", options.tty},
          {"user", {{"uid", 0}, {"gid", 0}}},
          {"args", options.args},
          {"env", environment(options)},
          {"cwd", options.cwd.empty() ? default_cwd(binds) : options.cwd},
          {"capabilities", capabilities},
          {"noNewPrivileges", true}};
}

}  // namespace

Result<std::string> do_spec_json(const DoOptions& options) {
  if (options.network != "none" && options.network != "host")
    return make_error(EINVAL, "--network {}: none and host are possible", options.network);
  if (!options.cwd.empty() && options.cwd[0] != '/') return make_error(EINVAL, "--cwd {}: must be an absolute path", options.cwd);
  std::vector<Bind> binds = TRY(binds_of(options));
  Json mounts = own_mounts();
  for (const Bind& bind : binds)
    mounts.push_back({{"destination", bind.destination},
                      {"type", "bind"},
                      {"source", bind.source},
                      {"options", {"rbind", bind.readonly ? "ro" : "rw", "rprivate"}}});
  Json namespaces = Json::array();
  for (const char* type : {"pid", "ipc", "uts", "mount", "cgroup"}) namespaces.push_back({{"type", type}});
  if (options.network == "none") namespaces.push_back({{"type", "network"}});
  Json spec = {{"ociVersion", oci::kSpecVersion},
               {"process", process_of(options, binds)},
               {"root", {{"path", "rootfs"}}},
               {"hostname", "caisson"},
               {"mounts", mounts},
               {"linux", {{"namespaces", namespaces}, {"maskedPaths", kMasked}, {"readonlyPaths", kReadonly}}}};
  return spec.dump(1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace caisson::cli
