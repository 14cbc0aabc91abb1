#include "container/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "base/unique_fd.h"

namespace caisson::container {
namespace {

constexpr size_t kMaxErrorText = 4096;

// The state document as a descriptor to read: a memfd, so that a hook that does not read it blocks nobody.
Result<UniqueFd> document(const std::string& text) {
  UniqueFd fd(memfd_create("caisson-state", MFD_CLOEXEC));
  if (!fd) return errno_error("making a memory file for the state document");
  for (size_t done = 0; done < text.size();) {
    ssize_t wrote = write(fd.get(), text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return errno_error("writing the state document");
    done += static_cast<size_t>(wrote);
  }
  if (lseek(fd.get(), 0, SEEK_SET) < 0) return errno_error("rewinding the state document");
  return fd;
}

struct SpawnFiles {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  SpawnFiles() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnFiles() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnFiles(const SpawnFiles&) = delete;
};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (const std::string& each : strings) out.push_back(const_cast<char*>(each.c_str()));
  out.push_back(nullptr);
  return out;
}

// Starts the hook in a process group of its own, which a timeout ends as a whole. Descriptors other than 0, 1 and 2 are close-on-exec everywhere in our code.
// folder: where it starts, "" for the caller's own.
Result<pid_t> spawn(const oci::Hook& hook, const std::string& folder, int in, int out_and_err) {
  SpawnFiles files;
  if (!folder.empty()) posix_spawn_file_actions_addchdir_np(&files.actions, folder.c_str());
  posix_spawn_file_actions_adddup2(&files.actions, in, 0);
  posix_spawn_file_actions_adddup2(&files.actions, out_and_err, 2);
  posix_spawn_file_actions_addopen(&files.actions, 1, "/dev/null", O_WRONLY, 0);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&files.attributes, &none);
  posix_spawnattr_setsigdefault(&files.attributes, &all);
  posix_spawnattr_setpgroup(&files.attributes, 0);
  posix_spawnattr_setflags(&files.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  std::vector<std::string> args = hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
  pid_t pid = 0;
  int code = posix_spawn(&pid, hook.path.c_str(), &files.actions, &files.attributes, pointers(args).data(), pointers(hook.env).data());
  if (code != 0) {
    errno = code;
    return errno_error("cannot be started");
  }
  return pid;
}

using Clock = std::chrono::steady_clock;

int left_ms(const std::optional<Clock::time_point>& deadline) {
  if (!deadline) return -1;
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(*deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left + 1, 0, INT32_MAX));
}

// Reads what the hook says until it has ended (a grandchild may hold the pipe for longer) or the time is over; true when it has ended.
bool wait_for(int pidfd, int pipe, const std::optional<Clock::time_point>& deadline, std::string& said) {
  for (;;) {
    pollfd watched[2] = {{pidfd, POLLIN, 0}, {pipe, POLLIN, 0}};
    int ready = poll(watched, 2, left_ms(deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (watched[1].revents) {
      char buffer[1024];
      ssize_t got = read(pipe, buffer, sizeof buffer);
      if (got > 0) said.append(buffer, std::min(static_cast<size_t>(got), kMaxErrorText - std::min(said.size(), kMaxErrorText)));
      else if (got == 0 || errno != EAGAIN) pipe = -1;
      if (got > 0) continue;
    }
    if (watched[0].revents) return true;
    if (deadline && Clock::now() >= *deadline) return false;
  }
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '\r')) text.pop_back();
  return text;
}

Result<void> run_hook(const oci::Hook& hook, const std::string& folder, const std::string& state_json) {
  UniqueFd in = TRY(document(state_json));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return errno_error("making a pipe");
  UniqueFd reader(ends[0]), writer(ends[1]);
  fcntl(reader.get(), F_SETFL, O_NONBLOCK);
  std::optional<Clock::time_point> deadline;
  if (hook.timeout) deadline = Clock::now() + std::chrono::seconds(*hook.timeout);
  pid_t pid = TRY(spawn(hook, folder, in.get(), writer.get()));
  writer.reset();
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  std::string said;
  bool ended = pidfd.valid() ? wait_for(pidfd.get(), reader.get(), deadline, said) : true;
  if (!ended) ::kill(-pid, SIGKILL);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return errno_error("waiting for it");
  std::string text = trimmed(said);
  std::string tail = text.empty() ? "" : fmt::format("; it said: {}", text);
  if (!ended) return make_error(ETIMEDOUT, "did not end within its timeout of {} s and was killed{}", *hook.timeout, tail);
  if (WIFSIGNALED(status)) return make_error(ECANCELED, "was killed by signal {}{}", WTERMSIG(status), tail);
  if (WEXITSTATUS(status) != 0) return make_error(ECANCELED, "ended with status {}{}", WEXITSTATUS(status), tail);
  return {};
}

}  // namespace

Result<void> run_hooks(const std::string& kind, const std::vector<oci::Hook>& hooks, const oci::State& state) {
  if (hooks.empty()) return {};
  std::string json = oci::state_to_json(state);
  // Those of the runtime's side start in the bundle, as with runc; startContainer hooks run in the container, which does not have it.
  std::string folder = kind != "startContainer" && access(state.bundle.c_str(), X_OK) == 0 ? state.bundle : "";
  for (size_t i = 0; i < hooks.size(); ++i) {
    log::debug("running {} hook {} ({})", kind, i, hooks[i].path);
    Result<void> done = run_hook(hooks[i], folder, json);
    if (!done.ok()) return make_error(done.error().code(), "hooks.{}[{}]: {} {}", kind, i, hooks[i].path, done.error().message());
  }
  return {};
}

}  // namespace caisson::container
