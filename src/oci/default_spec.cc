// The config.json that `caisson spec` writes: what `runc spec` writes, so that people find what they know.
#include "oci/document.h"
#include "oci/parse.h"

namespace caisson::oci {
namespace {

using Out = nlohmann::ordered_json;
using Strings = std::vector<std::string>;

Out process_json() {
  Strings capabilities = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  Out json;
  json["terminal"] = true;
  json["user"] = {{"uid", 0}, {"gid", 0}};
  json["args"] = Strings{"sh"};
  json["env"] = Strings{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"};
  json["cwd"] = "/";
  for (const char* set : {"bounding", "effective", "permitted"}) json["capabilities"][set] = capabilities;
  json["rlimits"] = Out::array({{{"type", "RLIMIT_NOFILE"}, {"hard", 1024}, {"soft", 1024}}});
  json["noNewPrivileges"] = true;
  return json;
}

Out mount_json(const char* destination, const char* type, const char* source, Strings options) {
  Out json = {{"destination", destination}, {"type", type}, {"source", source}};
  if (!options.empty()) json["options"] = std::move(options);
  return json;
}

Out mounts_json(bool rootless) {
  Out mounts = Out::array();
  mounts.push_back(mount_json("/proc", "proc", "proc", {}));
  mounts.push_back(mount_json("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}));
  Strings devpts = {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"};
  if (!rootless) devpts.push_back("gid=5");  // tty, which a single mapped id does not have
  mounts.push_back(mount_json("/dev/pts", "devpts", "devpts", std::move(devpts)));
  mounts.push_back(mount_json("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}));
  mounts.push_back(mount_json("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}));
  if (rootless) {
    // A new sysfs needs a network namespace of one's own.
    mounts.push_back(mount_json("/sys", "none", "/sys", {"rbind", "nosuid", "noexec", "nodev", "ro"}));
  } else {
    mounts.push_back(mount_json("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}));
    mounts.push_back(mount_json("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}));
  }
  return mounts;
}

Out linux_json(bool rootless, uint32_t uid, uint32_t gid) {
  Out json;
  if (rootless) {
    json["uidMappings"] = Out::array({{{"containerID", 0}, {"hostID", uid}, {"size", 1}}});
    json["gidMappings"] = Out::array({{{"containerID", 0}, {"hostID", gid}, {"size", 1}}});
  } else {
    json["resources"]["devices"] = Out::array({{{"allow", false}, {"access", "rwm"}}});
  }
  Strings types = {"pid", "ipc", "uts", "mount", "cgroup"};
  types.push_back(rootless ? "user" : "network");
  for (const std::string& type : types) json["namespaces"].push_back({{"type", type}});
  json["maskedPaths"] = Strings{"/proc/acpi",       "/proc/asound",      "/proc/kcore",       "/proc/keys",    "/proc/latency_stats",
                                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"};
  json["readonlyPaths"] = Strings{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  return json;
}

}  // namespace

std::string default_spec_json(bool rootless, uint32_t uid, uint32_t gid) {
  Out json;
  json["ociVersion"] = kSpecVersion;
  json["process"] = process_json();
  json["root"] = {{"path", "rootfs"}, {"readonly", true}};
  json["hostname"] = "caisson";
  json["mounts"] = mounts_json(rootless);
  json["linux"] = linux_json(rootless, uid, gid);
  return json.dump(1, '\t') + "\n";
}

}  // namespace caisson::oci
