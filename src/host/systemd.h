// Beside systemd, which owns the cgroup tree (systemd.io/CGROUP_DELEGATION): a cgroup below it is made as a transient scope unit, and
// systemd is told its limits, or it would write its own over them at the next daemon-reload.
#pragma once

#include <string>

#include "base/result.h"
#include "host/cgroup.h"
#include "host/dbus.h"
#include "host/process.h"

namespace caisson::host {

// systemd is this machine's init (sd_booted(3)), and we are its root, who may talk to it.
bool systemd_runs();

// A scope exists only while a process is in it: this one holds the place until the container's first process is in. Ends with the object.
class ScopeHolder {
 public:
  ScopeHolder() = default;
  ScopeHolder(ScopeHolder&&) = default;
  ScopeHolder& operator=(ScopeHolder&& other);
  ~ScopeHolder();
  pid_t pid() const { return process_.pid; }  // 0: there is none

 private:
  friend Result<ScopeHolder> start_scope(const CgroupPaths& paths);
  Cloned process_;
};

// Has systemd make the scope that is the last part of paths.path, in the slice that is the part before it. Only single-threaded processes.
// At most 30 s. The error is systemd's own words.
Result<ScopeHolder> start_scope(const CgroupPaths& paths);

// Whether paths is the place of a scope, on a node where systemd runs.
bool is_systemd_scope(const CgroupPaths& paths);
// Where paths is a scope of systemd's: tells it which limits the cgroup has (v2). Nothing to do elsewhere.
void tell_systemd_limits(const CgroupPaths& paths);
// Where paths is a scope of systemd's: has it forget the unit, whose cgroup is gone. Nothing to do elsewhere.
void forget_scope(const CgroupPaths& paths);

// What tell_systemd_limits tells, from the files of a cgroup v2 folder.
DbusProperties limits_of(const std::string& folder);
// "0-3,8" as bits, least significant byte first: what systemd takes for AllowedCPUs. Empty for what is no such list.
std::vector<uint8_t> bits_of_list(std::string_view list);

}  // namespace caisson::host
