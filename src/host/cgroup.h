// A container's cgroup, on version 1, version 2 and hybrid hosts (cgroups(7)): one object for all three.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::host {

enum class CgroupVersion { V1, V2 };  // a hybrid host counts as V1: its controllers are there

// What the mount table says. Cached after the first call.
struct CgroupLayout {
  CgroupVersion version = CgroupVersion::V2;
  std::string unified;                             // v2 mount point, "" if none (hybrid: the empty v2 tree)
  std::map<std::string, std::string> controllers;  // v1: controller or "name=systemd" -> mount point
  std::map<std::string, std::string>
      roots;  // mount point -> the cgroup that it shows as its root, where that is not "/" (a container's view)
};
Result<CgroupLayout> cgroup_layout();
// The same from the text of a mountinfo file (proc_pid_mountinfo(5)): pure.
CgroupLayout parse_cgroup_layout(std::string_view mountinfo);

// Everything needed to find a cgroup again after a restart: plain data for a state file.
struct CgroupPaths {
  CgroupVersion version = CgroupVersion::V2;
  std::string path;  // below the mount points, "/machine/x" (v1: that of the controller `memory`, should they differ)
  std::map<std::string, std::string> folders;  // "" -> folder (v2, and the v2 tree of a hybrid host), controller -> folder (v1)
};

// Folders for a path below every mount point of the layout.
Result<CgroupPaths> cgroup_paths(const CgroupLayout& layout, const std::string& path);
// The same for a path below this process's own cgroup, which v1 knows per controller. v2: below the parent of the own cgroup, because
// processes in the own one forbid controllers below it (runc does the same). proc_self_cgroup: the text of /proc/self/cgroup, for tests.
Result<CgroupPaths> cgroup_paths_below_own(const CgroupLayout& layout, const std::string& path);
Result<CgroupPaths> cgroup_paths_below_own(const CgroupLayout& layout, const std::string& path, std::string_view proc_self_cgroup);
// "a//b/../c" -> "/a/c"; never leaves "/".
std::string clean_cgroup_path(std::string_view path);
// This process's own cgroup path (of the controller `memory` on v1), "/" in the worst case.
Result<std::string> own_cgroup(const CgroupLayout& layout);

// Makes every folder (with its parents); v2: enables the available controllers on the way; v1: fills cpuset.cpus/mems from the parent. A
// controller that cannot be used is left out of paths.folders with a debug line. Existing folders are used, unless a process is in them
// (EBUSY): all that is in a container's cgroup gets killed with it. EINVAL for the root cgroup; the first error where no folder at all
// could be made. holder: the process that keeps a scope which systemd has made (ScopeHolder): it may be in it, and the v2 folder is there.
Result<void> create_cgroup(CgroupPaths& paths, pid_t holder = 0);
// Moves a process. pid 0: the calling one, which must have one thread. That is ten times as fast on v1 (no RCU grace period), so let init
// move itself, before it enters a cgroup or mount namespace; for the v2 folder use CLONE_INTO_CGROUP with unified_cgroup_fd (the process is
// then found to be there already).
Result<void> attach_to_cgroup(const CgroupPaths& paths, pid_t pid);
// The v2 folder (v2 and hybrid hosts) for clone3's CLONE_INTO_CGROUP; an invalid descriptor where there is none.
Result<UniqueFd> unified_cgroup_fd(const CgroupPaths& paths);
// Every process in it and below, in any of its hierarchies; sorted. An absent folder has none.
Result<std::vector<pid_t>> cgroup_processes(const CgroupPaths& paths);
// v2: cgroup.kill where there is one for SIGKILL; else freeze, signal, thaw until nothing new appears. Never signals the calling process.
// SIGKILL also thaws.
Result<void> signal_cgroup(const CgroupPaths& paths, int signal);
// v1 freezer or v2 cgroup.freeze; returns when the state has been reached (5 s at most).
Result<void> freeze_cgroup(const CgroupPaths& paths, bool frozen);
// True also while it is still being frozen.
Result<bool> cgroup_is_frozen(const CgroupPaths& paths);
// Kills what is in it and removes the folders with those below; retries while processes die (10 s at most). Idempotent. EINVAL for the root
// cgroup. A scope of systemd's is forgotten by it.
Result<void> remove_cgroup(const CgroupPaths& paths);
// Removes the folders if no process is in them, without waiting for anything; whether all are gone now. False for a
// scope of systemd's, which has to be told.
bool remove_empty_cgroup(const CgroupPaths& paths);

// A descriptor that polls readable (EPOLLIN) when the kernel reports an out-of-memory event in the cgroup: v1 an eventfd by
// cgroup.event_control, v2 an inotify on memory.events. Invalid where there is no memory controller. Non-blocking; read up to 4 KiB from it
// to clear it. It also fires for other memory events (v2) and when the cgroup goes away (v1), so compare oom_kills().
Result<UniqueFd> watch_oom(const CgroupPaths& paths);
// Processes killed so far for lack of memory, in it and below (v1 memory.oom_control, v2 memory.events); 0 where that is not known.
Result<uint64_t> oom_kills(const CgroupPaths& paths);

struct CgroupStats {
  uint64_t cpu_usage_nanos = 0, cpu_user_nanos = 0, cpu_system_nanos = 0, cpu_periods = 0, cpu_throttled_periods = 0,
           cpu_throttled_nanos = 0;
  std::vector<uint64_t> cpu_per_cpu_nanos;
  uint64_t memory_usage_bytes = 0, memory_max_usage_bytes = 0, memory_limit_bytes = 0 /* 0: none */, memory_cache_bytes = 0,
           memory_rss_bytes = 0, memory_inactive_file_bytes = 0, memory_swap_usage_bytes = 0,
           memory_swap_limit_bytes = 0 /* both: memory plus swap, as v1 counts; limit 0: none */, memory_failcnt = 0, oom_kills = 0;
  uint64_t pids_current = 0, pids_limit = 0;  // limit 0: none
  struct Blkio {
    uint64_t major = 0, minor = 0;
    std::string op;
    uint64_t value = 0;
  };
  std::vector<Blkio> io_service_bytes, io_serviced;
  struct Hugetlb {
    std::string page_size;
    uint64_t usage = 0, max = 0, failcnt = 0;
  };
  std::vector<Hugetlb> hugetlb;
  std::map<std::string, uint64_t> memory_raw;
};
// What cannot be read stays 0.
Result<CgroupStats> cgroup_stats(const CgroupPaths& paths);

}  // namespace caisson::host
