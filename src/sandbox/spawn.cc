// spawn_sandbox_process: the caller's side of a sandbox process's start.
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>

#include "sandbox/context.h"
#include "sandbox/process.h"
#include "sandbox/program.h"

namespace caisson::sandbox {
namespace {

// Numbers that the descriptors have in the new process.
constexpr int kContextFd = 3;
constexpr int kConnectionFd = 4;
constexpr int kProgramFd = 5;
constexpr int kFirstFree = 6;

// Of the caller's environment the sandbox process gets what it may need to find programs, and what sanitizers read; secrets of the caller's
// stay behind.
bool passes_on(std::string_view variable) {
  for (std::string_view name :
       {"PATH=", "HOME=", "TMPDIR=", "XDG_RUNTIME_DIR=", "LANG=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS=", "TSAN_OPTIONS="})
    if (variable.starts_with(name)) return true;
  return variable.starts_with("CAISSON_");
}

struct Plan {
  int null = -1, context = -1, connection = -1, program = -1;
  char* const* arguments = nullptr;
  char* const* environment = nullptr;
};

// Runs in the parent's memory (vfork): system calls only. Returns the errno value of what failed.
int become_sandbox(const Plan& plan) {
  setsid();
  if (chdir("/") != 0) return errno;
  umask(022);
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    sigaction(signal, &action, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Out of the way of the numbers that they are to have.
  const int context = fcntl(plan.context, F_DUPFD_CLOEXEC, kFirstFree);
  const int connection = fcntl(plan.connection, F_DUPFD_CLOEXEC, kFirstFree);
  const int program = fcntl(plan.program, F_DUPFD_CLOEXEC, kFirstFree);
  const int null = fcntl(plan.null, F_DUPFD_CLOEXEC, kFirstFree);
  if (context < 0 || connection < 0 || program < 0 || null < 0) return errno;
  for (int fd = 0; fd < 3; ++fd)
    if (dup2(null, fd) < 0) return errno;
  if (dup2(context, kContextFd) < 0 || dup2(connection, kConnectionFd) < 0 || dup3(program, kProgramFd, O_CLOEXEC) < 0) return errno;
  if (close_range(kFirstFree, ~0U, 0) != 0) return errno;
  execveat(kProgramFd, "", plan.arguments, plan.environment, AT_EMPTY_PATH);
  return errno;
}

// vfork(2): no page tables are copied, and the outcome of exec is known when it returns.
[[gnu::noinline]] pid_t start(const Plan& plan, volatile int* failure) {
  const pid_t pid = vfork();
  if (pid == 0) {
    *failure = become_sandbox(plan);
    _exit(127);
  }
  return pid;
}

}  // namespace

Result<SandboxClient> spawn_sandbox_process(const SandboxContext& context, pid_t* pid) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("cannot make a socket pair for a sandbox process");
  UniqueFd ours(pair[0]), theirs(pair[1]);
  const UniqueFd description = TRY(context_descriptor(context));
  const UniqueFd program = TRY(open_own_program());
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return errno_error("cannot open /dev/null");

  // ps(1) tells whose it is: "caisson-sandbox <id> sandbox-process 3 4".
  std::array<std::string, 4> words = {"caisson-sandbox " + context.id, kSandboxProcessCommand, std::to_string(kContextFd),
                                      std::to_string(kConnectionFd)};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::vector<char*> variables;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable)
    if (passes_on(*variable) && !std::string_view(*variable).starts_with(kProgramFolderVariable)) variables.push_back(*variable);
  std::string folder = fmt::format("{}={}", kProgramFolderVariable, own_program_folder());
  variables.push_back(folder.data());
  variables.push_back(nullptr);

  volatile int failure = 0;
  const pid_t child = start({null.get(), description.get(), theirs.get(), program.get(), arguments.data(), variables.data()}, &failure);
  if (child < 0) return errno_error("cannot fork a sandbox process");
  if (failure != 0) {
    waitpid(child, nullptr, 0);
    errno = failure;
    return errno_error("cannot execute the sandbox process");
  }
  if (pid != nullptr) *pid = child;
  return SandboxClient(rpc::Client(std::move(ours)));
}

}  // namespace caisson::sandbox
