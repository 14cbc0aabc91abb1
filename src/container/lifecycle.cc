// What happens to a container between its creation and its end.
#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>

#include <chrono>

#include "base/log.h"
#include "container/container.h"
#include "container/hooks.h"
#include "container/note.h"
#include "container/resources.h"
#include "host/process.h"

namespace caisson::container {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
constexpr auto kDestroyTime = std::chrono::seconds(10);

Result<UniqueFd> open_init(const Record& record) {
  auto pidfd = host::open_pidfd(record.pid, record.pid_start_time);
  if (!pidfd && pidfd.error().code() == ESRCH) return make_error(ESRCH, "container {} has ended", record.id);
  return pidfd;
}

oci::State state_of(const Record& record, const oci::Spec& spec, const char* status) {
  const int pid = std::string_view(status) == "stopped" ? 0 : record.pid;
  return {.id = record.id, .status = status, .pid = pid, .bundle = record.bundle, .annotations = spec.annotations};
}

// Those whose PID namespace is init's own: for containers without a cgroup.
Result<std::vector<pid_t>> pid_namespace_members(const Record& record) {
  const UniqueFd init = TRY(open_init(record));
  if (!record.owns_pid_namespace) return std::vector<pid_t>{record.pid};
  struct stat own;
  if (stat(fmt::format("/proc/{}/ns/pid", record.pid).c_str(), &own) != 0)
    return errno_error("cannot read the PID namespace of container {}", record.id);
  std::vector<pid_t> pids;
  DIR* dir = opendir("/proc");
  if (dir == nullptr) return errno_error("cannot list /proc");
  while (const dirent* entry = readdir(dir)) {
    const pid_t pid = atoi(entry->d_name);
    struct stat other;
    if (pid > 0 && stat(fmt::format("/proc/{}/ns/pid", pid).c_str(), &other) == 0 && other.st_ino == own.st_ino) pids.push_back(pid);
  }
  closedir(dir);
  return pids;
}

// A frozen process takes SIGKILL only when it is thawed (cgroup v1).
void thaw(const Record& record) {
  auto frozen = host::cgroup_is_frozen(record.cgroup);
  if (!frozen || !*frozen) return;
  auto thawed = host::freeze_cgroup(record.cgroup, false);
  if (!thawed) log::warning("container {} stays paused: {}", record.id, thawed.error().message());
}

Result<void> signal_all(const Record& record, int signal) {
  if (!record.cgroup.folders.empty()) {
    if (TRY(host::cgroup_processes(record.cgroup)).empty()) return make_error(ESRCH, "container {} has no process left", record.id);
    return host::signal_cgroup(record.cgroup, signal);
  }
  for (const pid_t pid : TRY(pid_namespace_members(record)))
    if (::kill(pid, signal) != 0 && errno != ESRCH) return errno_error("cannot send signal {} to process {}", signal, pid);
  return {};
}

bool wait_until_ended(const Record& record, steady_clock::time_point deadline) {
  auto init = host::open_pidfd(record.pid, record.pid_start_time);
  if (!init) return true;
  return host::wait_for_end(init->get(), std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now()));
}

Result<void> await_exec(const Record& record, int socket) {
  auto sent = send_note(socket, NoteKind::Start);
  if (!sent) {
    log::debug("start: {}", sent.error().message());
    return make_error(ESRCH, "container {} cannot be started: its first process has ended", record.id);
  }
  std::optional<Note> note = TRY(receive_note(socket));
  if (!note) return {};  // closed by a successful execve(2)
  if (note->kind == NoteKind::Error) return Error(note->value, note->text);
  return make_error(EPROTO, "init sent note {} in place of starting", static_cast<int>(note->kind));
}

}  // namespace

Result<void> start(const Record& record, const oci::Spec& spec, UniqueFd start_socket, bool run_runtime_hooks) {
  auto started = await_exec(record, start_socket.get());
  if (!started) {
    (void)wait_until_ended(record, steady_clock::now() + std::chrono::seconds(2));
    return started;
  }
  if (!run_runtime_hooks || spec.hooks.poststart.empty()) return {};
  auto hooks = run_hooks("poststart", spec.hooks.poststart, state_of(record, spec, "running"));
  if (hooks) return {};
  // runtime-spec 1.3, "Lifecycle": a failed poststart hook stops the container.
  if (auto killed = kill(record, SIGKILL, true); !killed && killed.error().code() != ESRCH) log::warning("{}", killed.error().message());
  return hooks;
}

Result<void> prepare(const Record& record, int start_socket) {
  auto sent = send_note(start_socket, NoteKind::Prepare);
  if (!sent) return make_error(ESRCH, "container {} cannot be prepared: its first process has ended", record.id);
  return {};
}

Result<void> kill(const Record& record, int signal, bool all) {
  if (all) {
    TRY(signal_all(record, signal));
  } else {
    const UniqueFd init = TRY(open_init(record));
    auto sent = host::send_signal(init.get(), signal);
    if (!sent && sent.error().code() == ESRCH) return make_error(ESRCH, "container {} has ended", record.id);
    if (!sent) return sent;
  }
  if (signal == SIGKILL) thaw(record);
  return {};
}

Result<void> destroy(const Record& record, const oci::Spec* spec, bool run_runtime_hooks) {
  const auto deadline = steady_clock::now() + kDestroyTime;
  if (auto killed = kill(record, SIGKILL, false); !killed && killed.error().code() != ESRCH) log::warning("{}", killed.error().message());
  if (record.cgroup.folders.empty() && !record.owns_pid_namespace)
    log::debug("container {} has neither a cgroup nor a PID namespace: only its first process is known", record.id);
  auto removed = host::remove_cgroup(record.cgroup);
  const bool ended = wait_until_ended(record, deadline);
  if (spec != nullptr && run_runtime_hooks && !spec->hooks.poststop.empty()) {
    auto hooks = run_hooks("poststop", spec->hooks.poststop, state_of(record, *spec, "stopped"));
    if (!hooks) log::warning("{}", hooks.error().message());
  }
  if (!removed) return removed;
  if (!ended) return make_error(ETIMEDOUT, "process {} of container {} has been killed but does not end", record.pid, record.id);
  return {};
}

Result<void> pause(const Record& record) {
  (void)TRY(open_init(record));
  return host::freeze_cgroup(record.cgroup, true);
}

Result<void> resume(const Record& record) { return host::freeze_cgroup(record.cgroup, false); }

Result<void> update(const Record& record, const oci::Resources& resources) { return apply_resources(record.cgroup, resources, true); }

Result<std::vector<pid_t>> processes(const Record& record) {
  if (record.cgroup.folders.empty()) return pid_namespace_members(record);
  return host::cgroup_processes(record.cgroup);
}

}  // namespace caisson::container
