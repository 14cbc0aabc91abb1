#include "host/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/log.h"
#include "base/text.h"
#include "host/cgroup_files.h"
#include "host/systemd.h"

namespace caisson::host {
namespace {

// Co-mounted controllers (cpu,cpuacct) share a folder: each once.
std::set<std::string> distinct_folders(const CgroupPaths& paths) {
  std::set<std::string> folders;
  for (const auto& [controller, folder] : paths.folders) folders.insert(folder);
  return folders;
}

Result<void> make_folder(const std::string& folder) {
  if (mkdir(folder.c_str(), 0755) == 0 || errno == EEXIST) return {};
  return errno_error("making the cgroup {}", folder);
}

// The folder and its parents, as far as they do not exist; outermost first.
std::vector<std::string> missing_folders(const std::string& folder) {
  std::vector<std::string> missing;
  struct stat status;
  std::string at = folder;
  while (at.size() > 1 && stat(at.c_str(), &status) != 0) {
    missing.push_back(at);
    at.resize(at.rfind('/'));
  }
  std::reverse(missing.begin(), missing.end());
  return missing;
}

// A new v1 cpuset has neither processors nor memory nodes and takes no process until it does (cpuset(7)); so has a parent that another
// program made.
Result<void> fill_cpuset(const std::string& folder) {
  for (const char* file : {"cpuset.cpus", "cpuset.mems"}) {
    if (TRY(read_cgroup_file(folder, file)).find_first_not_of(" \n") != std::string::npos) continue;
    std::string parent = folder.substr(0, folder.rfind('/'));
    std::string value = TRY(read_cgroup_file(parent, file));
    if (value.find_first_not_of(" \n") == std::string::npos) {
      TRY(fill_cpuset(parent));
      value = TRY(read_cgroup_file(parent, file));
    }
    while (!value.empty() && value.back() == '\n') value.pop_back();
    TRY(write_cgroup_file(folder, file, value));
  }
  return {};
}

Result<void> make_v1(const std::string& controller, const std::string& folder) {
  for (const std::string& part : missing_folders(folder)) TRY(make_folder(part));
  if (controller == "cpuset") TRY(fill_cpuset(folder));
  return {};
}

// Hands the controllers of a v2 folder to its children. All in one write, else each on its own, as one that cannot be used (cpu while
// real-time processes exist, for one) must not cost the others. A folder with processes in it refuses resource controllers (EBUSY, the "no
// internal processes" rule): apply_resources then names what is missing.
void enable_controllers(const std::string& folder) {
  Result<std::string> available = read_cgroup_file(folder, "cgroup.controllers");
  Result<std::string> enabled = read_cgroup_file(folder, "cgroup.subtree_control");
  if (!available.ok() || !enabled.ok()) return;
  while (!available->empty() && available->back() == '\n') available->pop_back();
  while (!enabled->empty() && enabled->back() == '\n') enabled->pop_back();
  std::vector<std::string_view> have = split_fields(*enabled, ' ');
  std::vector<std::string> wanted;
  for (std::string_view name : split_fields(*available, ' '))
    if (std::find(have.begin(), have.end(), name) == have.end()) wanted.push_back("+" + std::string(name));
  if (wanted.empty() || write_cgroup_file(folder, "cgroup.subtree_control", fmt::format("{}", fmt::join(wanted, " "))).ok()) return;
  for (const std::string& one : wanted)
    if (Result<void> done = write_cgroup_file(folder, "cgroup.subtree_control", one); !done.ok())
      log::debug("cgroup controller not enabled: {}", done.error().message());
}

// Makes a v2 folder, with the controllers enabled from the mount point down to its parent.
Result<void> make_v2(const std::string& folder, const std::string& path) {
  if (!folder.ends_with(path)) return make_error(EINVAL, "the cgroup folder {} does not end with its path {}", folder, path);
  std::string at = folder.substr(0, folder.size() - path.size());
  for (std::string_view part : split_fields(path, '/')) {
    enable_controllers(at);
    at.append("/").append(part);
    TRY(make_folder(at));
  }
  return {};
}

// The process is there already (it was cloned into it).
bool is_in(const std::string& folder, pid_t process) {
  std::string pid = std::to_string(process == 0 ? getpid() : process);
  Result<std::string> processes = read_cgroup_file(folder, "cgroup.procs");
  if (!processes.ok()) return false;
  std::vector<std::string_view> lines = split_fields(*processes, '\n');
  return std::find(lines.begin(), lines.end(), pid) != lines.end();
}

bool is_root(const CgroupPaths& paths) { return paths.path.empty() || paths.path == "/"; }

void read_processes(const std::string& folder, std::set<pid_t>& into) {
  for (const std::string& each : cgroup_tree(folder)) {
    Result<std::string> text = read_cgroup_file(each, "cgroup.procs");
    if (!text.ok()) continue;  // gone by now, or threaded (its processes are listed above it)
    for (std::string_view line : split_fields(*text, '\n'))
      if (std::optional<uint64_t> pid = parse_cgroup_number(line); pid && *pid != 0) into.insert(static_cast<pid_t>(*pid));
  }
}

}  // namespace

Result<void> create_cgroup(CgroupPaths& paths, pid_t holder) {
  if (is_root(paths))
    return make_error(EINVAL, "a container cannot have the root cgroup as its own: everything in it would be killed with the container");
  std::vector<pid_t> there = TRY(cgroup_processes(paths));
  std::erase(there, holder);
  if (!there.empty())
    return make_error(EBUSY, "the cgroup {} has {} process(es) in it already (such as {}): it cannot become a container's", paths.path,
                      there.size(), there.front());
  std::optional<Error> first;
  for (auto entry = paths.folders.begin(); entry != paths.folders.end();) {
    const auto& [controller, folder] = *entry;
    Result<void> made;
    // The v2 tree of a hybrid host is for finding and killing processes: its controllers, if any, stay as they are.
    if (paths.version == CgroupVersion::V1)
      made = make_v1(controller, folder);
    else if (holder == 0)
      made = make_v2(folder, paths.path);
    if (made.ok()) {
      ++entry;
      continue;
    }
    log::debug("cgroup controller {} is not used: {}", controller.empty() ? "(v2)" : controller, made.error().message());
    if (!first) first = std::move(made).error();
    entry = paths.folders.erase(entry);
  }
  if (paths.folders.empty() && first) return std::move(*first);
  return {};
}

Result<void> attach_to_cgroup(const CgroupPaths& paths, pid_t pid) {
  std::set<std::string> done;
  for (const auto& [controller, folder] : paths.folders) {
    if (!done.insert(folder).second) continue;
    if (controller.empty() && is_in(folder, pid)) continue;
    // A thread that moves itself needs no stop of the world; "tasks" is the v1 file that moves threads.
    const char* file = !controller.empty() && pid == 0 ? "tasks" : "cgroup.procs";
    TRY(write_cgroup_file(folder, file, std::to_string(pid)));
  }
  return {};
}

Result<UniqueFd> unified_cgroup_fd(const CgroupPaths& paths) {
  auto unified = paths.folders.find("");
  if (unified == paths.folders.end()) return UniqueFd();
  UniqueFd fd(open(unified->second.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return errno_error("opening the cgroup {}", unified->second);
  return fd;
}

Result<std::vector<pid_t>> cgroup_processes(const CgroupPaths& paths) {
  std::set<pid_t> pids;
  for (const std::string& folder : distinct_folders(paths)) read_processes(folder, pids);
  return std::vector<pid_t>(pids.begin(), pids.end());
}

namespace {
// All folders with those below. The last failure: EBUSY or ENOTEMPTY where waiting may help.
Result<void> remove_folders(const CgroupPaths& paths) {
  Result<void> outcome;
  for (const std::string& folder : distinct_folders(paths)) {
    std::vector<std::string> tree = cgroup_tree(folder);
    for (auto each = tree.rbegin(); each != tree.rend(); ++each)
      if (rmdir(each->c_str()) != 0 && errno != ENOENT) outcome = errno_error("removing the cgroup {}", *each);
  }
  return outcome;
}
}  // namespace

bool remove_empty_cgroup(const CgroupPaths& paths) {
  return !paths.folders.empty() && !is_root(paths) && !is_systemd_scope(paths) && remove_folders(paths).ok();
}

Result<void> remove_cgroup(const CgroupPaths& paths) {
  if (paths.folders.empty()) return {};
  if (is_root(paths)) return make_error(EINVAL, "the root cgroup cannot be removed");
  std::optional<Error> failure;
  auto removed_all = [&] {
    failure.reset();
    if (Result<void> removed = remove_folders(paths); !removed.ok()) failure = std::move(removed).error();
    // EBUSY: processes are in it, or new folders. Anything else will not pass by waiting.
    return !failure || (failure->code() != EBUSY && failure->code() != ENOTEMPTY);
  };
  auto try_again = [&] {
    if (removed_all()) return true;
    if (Result<void> killed = signal_cgroup(paths, SIGKILL); !killed.ok())
      log::debug("killing what is in cgroup {}: {}", paths.path, killed.error().message());
    return false;
  };
  auto unified = paths.folders.find("");
  wait_for_cgroup(std::chrono::seconds(10), unified == paths.folders.end() ? "" : unified->second + "/cgroup.events", try_again);
  forget_scope(paths);
  if (failure) return std::move(*failure);
  return {};
}

}  // namespace caisson::host
