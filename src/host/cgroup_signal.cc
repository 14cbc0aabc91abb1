// Freezing a cgroup, and signalling all that is in it.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/log.h"
#include "host/cgroup.h"
#include "host/cgroup_files.h"

namespace caisson::host {
namespace {

using std::chrono::milliseconds;

// Where freezing happens: the v1 controller, else the v2 folder.
struct Freezer {
  bool v1 = false;
  std::string folder;
};

std::optional<Freezer> freezer_of(const CgroupPaths& paths) {
  if (auto v1 = paths.folders.find("freezer"); v1 != paths.folders.end()) return Freezer{true, v1->second};
  auto v2 = paths.folders.find("");
  if (v2 != paths.folders.end() && cgroup_file_exists(v2->second, "cgroup.freeze")) return Freezer{false, v2->second};
  return std::nullopt;
}

// Frozen, or on the way there: whoever was freezing it may have died meanwhile.
Result<bool> is_frozen(const Freezer& freezer) {
  if (freezer.v1) return !TRY(read_cgroup_file(freezer.folder, "freezer.state")).starts_with("THAWED");
  if (read_cgroup_number(freezer.folder, "cgroup.freeze") == 1) return true;
  auto events = read_cgroup_table(freezer.folder, "cgroup.events");
  return events["frozen"] == 1;
}

// A v1 freezer can stay FREEZING when processes fork or sleep at the wrong moment: thawing and freezing again helps (freezer-subsystem.txt;
// runc does it too).
Result<void> set_v1(const Freezer& freezer, bool frozen) {
  const char* wanted = frozen ? "FROZEN" : "THAWED";
  TRY(write_cgroup_file(freezer.folder, "freezer.state", wanted));
  int tries = 0;
  std::optional<Error> failure;
  bool reached = wait_for_cgroup(milliseconds(5000), "", [&] {
    Result<std::string> state = read_cgroup_file(freezer.folder, "freezer.state");
    if (!state.ok()) {
      failure = std::move(state).error();
      return true;
    }
    if (state->starts_with(wanted)) return true;
    if (frozen && ++tries % 16 == 0) (void)write_cgroup_file(freezer.folder, "freezer.state", "THAWED");
    (void)write_cgroup_file(freezer.folder, "freezer.state", wanted);
    return false;
  });
  if (failure) return std::move(*failure);
  if (reached) return {};
  if (frozen) (void)write_cgroup_file(freezer.folder, "freezer.state", "THAWED");
  return make_error(ETIMEDOUT, "the cgroup {} could not be {} within 5 s", freezer.folder, frozen ? "frozen" : "thawed");
}

Result<void> set_v2(const Freezer& freezer, bool frozen) {
  TRY(write_cgroup_file(freezer.folder, "cgroup.freeze", frozen ? "1" : "0"));
  uint64_t wanted = frozen ? 1 : 0;
  bool reached = wait_for_cgroup(milliseconds(5000), freezer.folder + "/cgroup.events",
                                 [&] { return read_cgroup_table(freezer.folder, "cgroup.events")["frozen"] == wanted; });
  if (reached) return {};
  if (frozen) (void)write_cgroup_file(freezer.folder, "cgroup.freeze", "0");
  return make_error(ETIMEDOUT, "the cgroup {} could not be {} within 5 s", freezer.folder, frozen ? "frozen" : "thawed");
}

Result<void> set_frozen(const Freezer& freezer, bool frozen) { return freezer.v1 ? set_v1(freezer, frozen) : set_v2(freezer, frozen); }

// Asks for a state without waiting for it: enough while killing, where all that counts is that few new processes appear.
void ask(const Freezer& freezer, bool frozen) {
  Result<void> done = freezer.v1 ? write_cgroup_file(freezer.folder, "freezer.state", frozen ? "FROZEN" : "THAWED")
                                 : write_cgroup_file(freezer.folder, "cgroup.freeze", frozen ? "1" : "0");
  if (!done.ok() && done.error().code() != ENOENT) log::debug("freezing while signalling: {}", done.error().message());
}

// Signals each process not yet in `signalled`; true when there was a new one.
Result<bool> signal_new(const CgroupPaths& paths, int signal, std::set<pid_t>& signalled) {
  bool found = false;
  for (pid_t pid : TRY(cgroup_processes(paths))) {
    if (pid == getpid() || !signalled.insert(pid).second) continue;
    found = true;
    if (::kill(pid, signal) != 0 && errno != ESRCH) return errno_error("sending signal {} to process {}", signal, pid);
  }
  return found;
}

// The caller must neither freeze nor kill itself, should it be in the cgroup.
bool holds_caller(const std::vector<pid_t>& pids) { return std::find(pids.begin(), pids.end(), getpid()) != pids.end(); }

// Linux 5.14: kills all that is in and below a v2 folder, whatever forks meanwhile.
void kill_unified(const CgroupPaths& paths) {
  auto unified = paths.folders.find("");
  if (unified == paths.folders.end() || !cgroup_file_exists(unified->second, "cgroup.kill")) return;
  Result<void> killed = write_cgroup_file(unified->second, "cgroup.kill", "1");
  if (!killed.ok()) log::debug("killing a cgroup: {}", killed.error().message());
}

// SIGKILL where cgroup.kill does not reach. New processes come from those not yet signalled only (a fork with a signal pending is not
// done), so the second turn and those after it happen where something forks faster than it is signalled: frozen, it cannot.
Result<void> kill_all(const CgroupPaths& paths, const std::optional<Freezer>& freezer) {
  std::set<pid_t> signalled;
  for (int turn = 0; turn < 64; ++turn) {
    bool freeze = freezer && turn > 0;
    if (freeze) ask(*freezer, true);
    Result<bool> found = signal_new(paths, SIGKILL, signalled);
    if (freeze) ask(*freezer, false);
    if (!found.ok()) return std::move(found).error();
    if (!*found) return {};
  }
  return {};
}

}  // namespace

Result<void> freeze_cgroup(const CgroupPaths& paths, bool frozen) {
  std::optional<Freezer> freezer = freezer_of(paths);
  if (!freezer)
    return make_error(
        ENOTSUP,
        "this node has no cgroup freezer (v1 controller \"freezer\", or v2 from Linux 5.2 on): a container cannot be paused or resumed");
  return set_frozen(*freezer, frozen);
}

Result<bool> cgroup_is_frozen(const CgroupPaths& paths) {
  std::optional<Freezer> freezer = freezer_of(paths);
  if (!freezer) return false;
  return is_frozen(*freezer);
}

Result<void> signal_cgroup(const CgroupPaths& paths, int signal) {
  if (paths.path.empty() || paths.path == "/") return make_error(EINVAL, "the root cgroup is not signalled as a whole");
  std::vector<pid_t> pids = TRY(cgroup_processes(paths));
  if (pids.empty()) return {};
  std::optional<Freezer> freezer = holds_caller(pids) ? std::nullopt : freezer_of(paths);
  Result<bool> frozen = freezer ? is_frozen(*freezer) : Result<bool>(false);
  bool was_frozen = frozen.ok() && *frozen;
  if (signal == SIGKILL) {
    if (!holds_caller(pids)) kill_unified(paths);
    Result<void> killed = kill_all(paths, freezer);
    if (was_frozen) ask(*freezer, false);  // on v1 a frozen process dies only when thawed
    return killed;
  }
  bool freeze = freezer && !was_frozen;
  if (freeze) {
    if (Result<void> done = set_frozen(*freezer, true); !done.ok()) log::debug("signalling without freezing: {}", done.error().message());
  }
  std::set<pid_t> signalled;
  Result<bool> sent = signal_new(paths, signal, signalled);
  if (freeze) ask(*freezer, false);
  if (!sent.ok()) return std::move(sent).error();
  return {};
}

}  // namespace caisson::host
