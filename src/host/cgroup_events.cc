// Out-of-memory events (cgroup-v1/memory.rst section 10, cgroup-v2.rst "memory.events").
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#include "host/cgroup.h"
#include "host/cgroup_files.h"

namespace caisson::host {
namespace {

Result<UniqueFd> watch_v1(const std::string& folder) {
  std::string name = folder + "/memory.oom_control";
  UniqueFd control(open(name.c_str(), O_RDONLY | O_CLOEXEC));
  if (!control) return errno_error("opening {}", name);
  UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return errno_error("making an eventfd");
  TRY(write_cgroup_file(folder, "cgroup.event_control", fmt::format("{} {}", event.get(), control.get())));
  return event;  // the kernel keeps its own reference to the control file
}

Result<UniqueFd> watch_v2(const std::string& folder) {
  UniqueFd watch(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!watch) return errno_error("making an inotify descriptor");
  std::string name = folder + "/memory.events";
  if (inotify_add_watch(watch.get(), name.c_str(), IN_MODIFY) < 0) return errno_error("watching {}", name);
  return watch;
}

}  // namespace

Result<UniqueFd> watch_oom(const CgroupPaths& paths) {
  bool v1 = paths.version == CgroupVersion::V1;
  auto found = paths.folders.find(v1 ? "memory" : "");
  if (found == paths.folders.end()) return UniqueFd();
  if (!cgroup_file_exists(found->second, v1 ? "memory.oom_control" : "memory.events")) return UniqueFd();
  return v1 ? watch_v1(found->second) : watch_v2(found->second);
}

Result<uint64_t> oom_kills(const CgroupPaths& paths) {
  bool v1 = paths.version == CgroupVersion::V1;
  auto found = paths.folders.find(v1 ? "memory" : "");
  if (found == paths.folders.end()) return uint64_t{0};
  if (!v1) return read_cgroup_table(found->second, "memory.events")["oom_kill"];
  uint64_t kills = 0;  // v1 counts each cgroup on its own
  for (const std::string& folder : cgroup_tree(found->second)) kills += read_cgroup_table(folder, "memory.oom_control")["oom_kill"];
  return kills;
}

}  // namespace caisson::host
