// Leftovers: what a sandbox holds outside its own processes' memory, written to its folder before it is made, so that `delete --force` can
// free it whatever has died.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "host/cgroup.h"

namespace caisson::sandbox {

struct ProcessIdentity {
  pid_t pid = 0;
  uint64_t start_time = 0;  // field 22 of /proc/pid/stat
};
// Start time of a live process; ESRCH when there is none.
Result<uint64_t> process_start_time(pid_t pid);
bool is_alive(const ProcessIdentity& process);

struct Leftovers {
  std::vector<ProcessIdentity> processes;  // to kill
  std::vector<host::CgroupPaths> cgroups;  // to empty (kill) and remove
  std::vector<std::string> mounts;         // to unmount, last first, lazily
  std::vector<std::string> folders;        // to remove with what is in them (never followed across a mount)
  std::vector<std::string> interfaces;     // network interfaces to delete
};

// One file per owner: <dir>/<name>.leftovers.json, by rename.
inline constexpr std::string_view kLeftoversSuffix = ".leftovers.json";
std::string leftovers_file(const std::string& dir, const std::string& name);
Result<void> save_leftovers(const std::string& dir, const std::string& name, const Leftovers& leftovers);
Result<Leftovers> load_leftovers(const std::string& file);

// Frees all that they name, as far as possible; the first failure is the error. Idempotent.
Result<void> free_leftovers(const Leftovers& leftovers, std::chrono::milliseconds limit);

// The sandbox process of a folder holds a POSIX write lock on <dir>/lock; this is who, 0 if nobody (F_GETLK).
Result<pid_t> lock_holder(const std::string& dir);
// Takes that lock for the calling process, for its life. Returns the descriptor to keep.
Result<UniqueFd> take_lock(const std::string& dir);

// Kills the lock holder, frees everything that the folder's *.leftovers.json name, unmounts what is mounted below the folder, and removes
// it. The folder stays where something could not be freed: a later call tries again. Idempotent; bounded: about 15 s.
Result<void> free_sandbox_folder(const std::string& dir);

}  // namespace caisson::sandbox
