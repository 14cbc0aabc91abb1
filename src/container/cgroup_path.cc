#include "container/cgroup_path.h"

#include "base/log.h"
#include "base/text.h"
#include "container/container.h"

namespace caisson::container {
namespace {

Error bad_path(const std::string& path, const char* why) { return make_error(EINVAL, "linux.cgroupsPath: {}, is \"{}\"", why, path); }

Result<CgroupLocation> systemd_location(const std::string& cgroups_path, const std::string& id) {
  std::string slice = "system.slice", prefix = "caisson", name = id;
  if (!cgroups_path.empty()) {
    size_t first = cgroups_path.find(':');
    size_t second = first == std::string::npos ? first : cgroups_path.find(':', first + 1);
    if (second == std::string::npos || cgroups_path.find(':', second + 1) != std::string::npos)
      return bad_path(cgroups_path, "must have the form \"slice:prefix:name\" with --systemd-cgroup");
    slice = cgroups_path.substr(0, first);
    prefix = cgroups_path.substr(first + 1, second - first - 1);
    name = cgroups_path.substr(second + 1);
    if (slice.empty()) slice = "system.slice";
  }
  if (name.empty() || name.find('/') != std::string::npos || prefix.find('/') != std::string::npos)
    return bad_path(cgroups_path, "the prefix and the name must not have a \"/\", and the name must not be empty");
  Result<std::string> folder = expand_slice(slice);
  if (!folder.ok()) return std::move(folder).error().within("linux.cgroupsPath");
  std::string unit = name;
  if (!name.ends_with(".slice")) unit = (prefix.empty() ? name : prefix + "-" + name) + ".scope";
  return CgroupLocation{host::clean_cgroup_path(*folder + "/" + unit), false};
}

}  // namespace

Result<std::string> expand_slice(const std::string& slice) {
  constexpr std::string_view suffix = ".slice";
  if (slice == "-.slice") return std::string("/");
  if (slice.size() <= suffix.size() || !slice.ends_with(suffix) || slice.find('/') != std::string::npos)
    return make_error(EINVAL, "\"{}\" is not the name of a slice: it must end with \".slice\" and have no \"/\"", slice);
  std::string_view stem = std::string_view(slice).substr(0, slice.size() - suffix.size());
  if (stem.front() == '-' || stem.back() == '-' || stem.find("--") != std::string_view::npos)
    return make_error(EINVAL, "\"{}\" is not the name of a slice: a \"-\" must be between two parts", slice);
  std::string path, name;
  for (std::string_view part : split_fields(stem, '-')) {
    name += (name.empty() ? "" : "-") + std::string(part);
    path += "/" + name + ".slice";
  }
  return path;
}

Result<CgroupLocation> locate_cgroup(const std::string& cgroups_path, const std::string& id, bool systemd) {
  if (cgroups_path.find('\0') != std::string::npos || cgroups_path.find('\n') != std::string::npos)
    return make_error(EINVAL, "linux.cgroupsPath: must not have a null byte or a line end in it");
  if (systemd) return systemd_location(cgroups_path, id);
  CgroupLocation location{host::clean_cgroup_path(cgroups_path.empty() ? id : cgroups_path), !cgroups_path.starts_with('/')};
  if (location.path == "/") return bad_path(cgroups_path, "must name a cgroup other than the root");
  return location;
}

Result<host::CgroupPaths> plan_cgroup(const oci::Spec& spec, const std::string& id, bool systemd_cgroup) {
  CgroupLocation location = TRY(locate_cgroup(spec.linux_.cgroups_path, id, systemd_cgroup));
  host::CgroupLayout layout = TRY(host::cgroup_layout());
  return location.below_own ? host::cgroup_paths_below_own(layout, location.path) : host::cgroup_paths(layout, location.path);
}

Result<host::ScopeHolder> make_cgroup(host::CgroupPaths& paths, bool systemd_cgroup) {
  host::ScopeHolder holder;
  if (systemd_cgroup && host::systemd_runs()) {
    if (paths.path.ends_with(".scope"))
      holder = TRY(host::start_scope(paths));
    else
      log::warning("--systemd-cgroup: the slice {} is made without asking systemd, which may remove it", paths.path);
  }
  TRY(host::create_cgroup(paths, holder.pid()));
  return holder;
}

}  // namespace caisson::container
