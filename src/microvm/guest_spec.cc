#include "microvm/guest_spec.h"

#include <linux/magic.h>
#include <sys/statfs.h>

#include <algorithm>
#include <filesystem>

#include "microvm/mirrored_volumes.h"
#include "oci/document.h"
#include "oci/support.h"

namespace caisson::microvm {
namespace {

using oci::Json;

std::string absolute_below(const std::string& bundle, const std::string& path) {
  std::filesystem::path full = path.starts_with('/') ? std::filesystem::path(path) : std::filesystem::path(bundle) / path;
  return full.lexically_normal().string();
}

bool is_at_or_below(std::string_view path, std::string_view folder) {
  return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

// Parts of the host's own tree of which every kernel has its own: the guest's are meant then.
bool is_of_every_kernel(std::string_view path) {
  return is_at_or_below(path, "/proc") || is_at_or_below(path, "/sys") || is_at_or_below(path, "/dev");
}

bool has_option(const Json& mount, std::initializer_list<std::string_view> names) {
  if (!mount.contains("options")) return false;
  return std::any_of(mount["options"].begin(), mount["options"].end(), [&](const Json& option) {
    return option.is_string() && std::find(names.begin(), names.end(), option.get<std::string>()) != names.end();
  });
}

bool is_bind(const Json& mount) { return mount.value("type", "") == "bind" || has_option(mount, {"bind", "rbind"}); }

// Engines make /dev/shm on the host and bind it. Memory that is shared between processes must be the guest's own.
bool make_guest_shm(Json& mount, const std::string& source, bool in_pod) {
  struct statfs info = {};
  if (mount.value("destination", "") != "/dev/shm" || statfs(source.c_str(), &info) != 0 || info.f_type != TMPFS_MAGIC) return false;
  if (in_pod) {
    mount["type"] = "bind";
    mount["source"] = "/dev/shm";  // the agent's own
    mount["options"] = {"rbind", "nosuid", "noexec", "nodev"};
    return true;
  }
  mount["type"] = "tmpfs";
  mount["source"] = "shm";
  Json options = {"nosuid", "noexec", "nodev", "mode=1777"};
  if (info.f_blocks > 0)
    options.push_back(fmt::format("size={}", static_cast<uint64_t>(info.f_blocks) * static_cast<uint64_t>(info.f_bsize)));
  mount["options"] = options;
  return true;
}

void translate_mounts(Json& mounts, const std::string& bundle, const std::string& folder, bool in_pod, GuestSpec& guest) {
  size_t number = 0;
  for (size_t index = 0; index < mounts.size(); ++index) {
    Json& mount = mounts[index];
    if (!is_bind(mount)) continue;
    std::string source = absolute_below(bundle, mount.value("source", ""));
    if (make_guest_shm(mount, source, in_pod)) continue;
    if (is_of_every_kernel(source)) {
      mount["source"] = source;
      guest.warnings.push_back(fmt::format("config.json: mounts ({}): {} is the guest's own with microvm isolation, not the node's",
                                           oci::excerpt(mount.value("destination", "")), oci::excerpt(source)));
      continue;
    }
    Exposure exposure{.field = fmt::format("mounts[{}].source", index),
                      .host_path = source,
                      .name = fmt::format("{}/m{}", folder, ++number),
                      .readonly = has_option(mount, {"ro", "rro"}),
                      .recursive = mount.value("type", "") == "bind" ? !has_option(mount, {"bind"}) || has_option(mount, {"rbind"})
                                                                     : has_option(mount, {"rbind"}),
                      .follows = has_option(mount, {"slave", "rslave", "shared", "rshared"})};
    const bool mirrored = exposure.readonly && is_atomic_volume(source);
    if (mirrored) guest.mirrors.push_back({.host_path = source, .name = exposure.name});
    mount["source"] = fmt::format("{}/{}", mirrored ? kGuestMirrorFolder : kGuestShareFolder, exposure.name);
    guest.exposures.push_back(std::move(exposure));
  }
}

// The namespace's file below /proc/<pid>/ns.
std::string namespace_file(const std::string& type) { return type == "network" ? "net" : type == "mount" ? "mnt" : type; }

void translate_namespaces(Json& namespaces, int pod_init, bool has_first_network) {
  for (Json& entry : namespaces) {
    const std::string type = entry.value("type", "");
    if (type == "network" && has_first_network) entry["path"] = "/proc/1/ns/net";
    if (entry.value("path", "").empty()) continue;
    // The pod's interfaces are in the agent's own network namespace.
    if (type == "network")
      entry["path"] = "/proc/1/ns/net";
    else if (pod_init > 0)
      entry["path"] = fmt::format("/proc/{}/ns/{}", pod_init, namespace_file(type));
    else
      entry.erase("path");
  }
}

}  // namespace

Result<GuestSpec> translate_spec(std::string_view config_json, const std::string& bundle, const std::string& id, const std::string& folder,
                                 bool in_pod, int pod_init, bool has_first_network) {
  Json document = TRY(oci::parse_document(config_json, "config.json"));
  GuestSpec guest;
  try {
    Exposure root{.field = "root.path",
                  .host_path = absolute_below(bundle, document.at("root").at("path").get<std::string>()),
                  .name = folder + "/rootfs"};
    document["root"]["path"] = fmt::format("{}/{}", kGuestShareFolder, root.name);
    guest.exposures.push_back(std::move(root));
    if (document.contains("mounts")) translate_mounts(document["mounts"], bundle, folder, in_pod, guest);
    if (document.contains("hooks")) {
      Json kept = Json::object();
      if (document["hooks"].contains("startContainer")) kept["startContainer"] = document["hooks"]["startContainer"];
      document["hooks"] = kept;
    }
    if (document["linux"].contains("namespaces")) translate_namespaces(document["linux"]["namespaces"], pod_init, has_first_network);
    document["linux"]["cgroupsPath"] = "/" + id;
  } catch (const Json::exception& error) {
    // The document has been validated before: this is no ordinary answer to a broken one.
    return make_error(EINVAL, "config.json: cannot be translated for the guest: {}", error.what());
  }
  guest.json = document.dump(-1, ' ', false, Json::error_handler_t::replace);
  return guest;
}

Result<std::string> translate_resources(std::string_view resources_json, std::vector<std::string>& warnings) {
  Json config = {{"ociVersion", "1.0.0"}, {"root", {{"path", "/"}}}, {"linux", Json::object()}};
  // Namespaces were spoken of when the container was created.
  for (const char* type : {"network", "pid", "ipc", "uts", "cgroup"}) config["linux"]["namespaces"].push_back({{"type", type}});
  config["linux"]["resources"] = TRY(oci::parse_document(resources_json, "resources"));
  oci::Adapted adapted = TRY(oci::adapt_config(config.dump(-1, ' ', false, Json::error_handler_t::replace), "microvm"));
  warnings = std::move(adapted.warnings);
  Json kept = TRY(oci::parse_document(adapted.json, "resources"));
  return kept["linux"]["resources"].dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace caisson::microvm
