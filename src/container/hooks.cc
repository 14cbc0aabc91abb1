#include "container/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
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

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (const std::string& each : strings) out.push_back(const_cast<char*>(each.c_str()));
  out.push_back(nullptr);
  return out;
}

struct HookProcess {
  const char* path = nullptr;
  const char* folder = nullptr;  // "": the caller's own
  int in = -1, out_and_err = -1, null = -1;
  char* const* arguments = nullptr;
  char* const* environment = nullptr;
};

// Runs in the parent's memory (vfork): system calls only. Returns the errno value of what failed.
int become_hook(const HookProcess& hook) {
  // Whoever waits for the hook may be killed (delete --force): it must not go on by itself then. Daemons that it has started are not
  // concerned.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setpgid(0, 0);
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    sigaction(signal, &action, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (*hook.folder != '\0' && chdir(hook.folder) != 0) return errno;
  // The three are above 2: 0 to 2 are open in all our processes.
  if (dup2(hook.in, 0) < 0 || dup2(hook.null, 1) < 0 || dup2(hook.out_and_err, 2) < 0) return errno;
  execve(hook.path, hook.arguments, hook.environment);
  return errno;
}

[[gnu::noinline]] pid_t start(const HookProcess& hook, volatile int* failure) {
  const pid_t pid = vfork();
  if (pid == 0) {
    *failure = become_hook(hook);
    _exit(127);
  }
  return pid;
}

// Starts the hook in a process group of its own, which a timeout ends as a whole. Descriptors other than 0, 1 and 2 are close-on-exec
// everywhere in our code. folder: where it starts, "" for the caller's own.
Result<pid_t> spawn(const oci::Hook& hook, const std::string& folder, int in, int out_and_err) {
  const UniqueFd null(open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (!null) return errno_error("cannot be started: /dev/null");
  const std::vector<std::string> args = hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
  const std::vector<char*> arguments = pointers(args), environment = pointers(hook.env);
  volatile int failure = 0;
  const pid_t pid = start({.path = hook.path.c_str(),
                           .folder = folder.c_str(),
                           .in = in,
                           .out_and_err = out_and_err,
                           .null = null.get(),
                           .arguments = arguments.data(),
                           .environment = environment.data()},
                          &failure);
  if (pid < 0) return errno_error("cannot be started");
  if (failure == 0) return pid;
  waitpid(pid, nullptr, 0);
  errno = failure;
  return errno_error("cannot be started");
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
      if (got > 0)
        said.append(buffer, std::min(static_cast<size_t>(got), kMaxErrorText - std::min(said.size(), kMaxErrorText)));
      else if (got == 0 || errno != EAGAIN)
        pipe = -1;
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
  Result<void> outcome;
  for (size_t i = 0; i < hooks.size(); ++i) {
    log::debug("running {} hook {} ({})", kind, i, hooks[i].path);
    Result<void> done = run_hook(hooks[i], folder, json);
    if (done.ok()) continue;
    if (!outcome.ok()) log::warning("{}", outcome.error().message());
    outcome = make_error(done.error().code(), "hooks.{}[{}]: {} {}", kind, i, hooks[i].path, done.error().message());
    // runtime.md, "Lifecycle", step 13: the hooks after a failed poststop hook run nevertheless.
    if (kind != "poststop") break;
  }
  return outcome;
}

}  // namespace caisson::container
