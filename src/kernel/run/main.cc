// kernel_run: a program under the application kernel, without a container around it: for tests of the kernel and for people who work on it.
//     kernel_run [--strace] [--no-patch] [--bare] [--terminal] [--root FOLDER] [--hostname NAME] PROGRAM [ARGUMENTS...]
//     kernel_run --calls: the table of system calls, for the tests and the compatibility page
// --no-patch: every call traps (kernel/patch). --terminal: standard input is a terminal (of no session) that becomes the program's. Mounts
// proc, dev, devpts, sysfs and so on over the folders of the root, but with --bare. Exits like the program does.
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "kernel/allocator.h"
#include "kernel/fs/host/host_fs.h"
#include "kernel/fs/host/identity.h"
#include "kernel/fs/host/stream.h"
#include "kernel/fs/registry.h"
#include "kernel/klog.h"
#include "kernel/net/broker.h"
#include "kernel/net/room_maker.h"
#include "kernel/patch/call_sites.h"
#include "kernel/platform/filter.h"
#include "kernel/platform/host_calls.h"
#include "kernel/platform/host_proc.h"
#include "kernel/platform/host_rows.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/kernel.h"
#include "kernel/tty/console.h"

extern char** environ;

namespace caisson::kernel {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

struct Options {
  bool strace = false;
  bool mounts = true;
  bool patch = true;
  bool terminal = false;
  std::string root = "/";
  std::string hostname = "appkernel";
  std::vector<std::string> command;
};

int fail(const char* what, Errno error) {
  fprintf(stderr, "kernel_run: %s: %s\n", what, strerrordesc_np(error.value));
  return 125;
}

// /proc of the PID namespace that we are in, mounted nowhere.
int open_proc() {
  const int context = static_cast<int>(syscall(SYS_fsopen, "proc", 1));
  if (context < 0) return -1;
  if (syscall(SYS_fsconfig, context, 6 /* FSCONFIG_CMD_CREATE */, nullptr, nullptr, 0) != 0) return -1;
  return static_cast<int>(syscall(SYS_fsmount, context, 1, 0));
}

Result<std::unique_ptr<Container>> make_container(Kernel& kernel, const Options& options) {
  auto container = std::make_unique<Container>();
  container->id = "run";
  container->pids = std::make_shared<PidNamespace>();
  container->mounts = std::make_shared<MountTable>();
  container->uts = std::make_shared<UtsNames>();
  container->uts->set_host(options.hostname);
  UniqueFd root(open(options.root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return host_errno();
  const auto fs = TRY(HostFileSystem::create(std::move(root)));
  const auto dentry = std::make_shared<Dentry>("", nullptr, TRY(fs->root()));
  const MountRef mount = TRY(container->mounts->add(fs, dentry, Path(), 0, "rootfs", ""));
  container->root = {mount, dentry};
  if (options.mounts) TRY(mount_usual(*make_setup_task(kernel, *container)));
  return container;
}

Result<int> run(const Options& options) {
  const int proc = open_proc();
  if (proc < 0) return host_errno();
  set_proc_folder(proc);
  set_host_proc(UniqueFd(fcntl(proc, F_DUPFD_CLOEXEC, 3)));
  umask(0);
  constexpr uint64_t kBrokered = 1ULL << CAP_NET_RAW | 1ULL << CAP_NET_ADMIN;
  TRY(start_network_broker(-1, kBrokered));
  // With a /proc that is not of the root directory, where there need not be one.
  start_room_maker(proc);
  await_room_maker();
  TRY(limit_capabilities(~kBrokered, ~0ULL));
  CallSites::allow(options.patch);
  const std::unique_ptr<Kernel> kernel = TRY(Kernel::create());
  strace_configure(options.strace);
  const std::unique_ptr<Container> container = TRY(make_container(*kernel, options));
  if (!enter_proc_folder()) return host_errno();
  // As a container's kernel: a host call that has no row is found here first.
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return host_errno();
  // Sanitizers make host calls of their own, which no row lists.
  if (!kSanitized) TRY(load_host_filter(kAllCapabilities));
  StartProcess process;
  process.arguments = options.command;
  for (char** variable = environ; *variable != nullptr; ++variable) process.environment.push_back(*variable);
  auto creds = std::make_shared<Credentials>();
  creds->permitted = creds->effective = creds->bounding = kAllCapabilities;
  process.creds = creds;
  if (options.terminal) {
    process.terminal = TRY(make_console(*kernel, *container, UniqueFd(fcntl(0, F_DUPFD_CLOEXEC, 3)), 0));
    process.files.assign(3, TRY(open_console(*container, process.terminal)));
  }
  for (int fd = 0; fd < 3 && !options.terminal; ++fd)
    process.files.push_back(TRY(make_host_stream(kernel->watcher(), UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 3)))));
  const std::shared_ptr<Terminal> process_terminal = process.terminal;
  Kernel::Started started = TRY(kernel->start(*container, std::move(process)));
  started.go();
  kernel->wait_for_end(*started.group);
  if (options.terminal) process_terminal->drain(10'000);
  const WaitStatus status = started.group->exit;
  kernel->shutdown();
  return status.code == CLD_EXITED ? status.status : 128 + status.status;
}

// A line per call of the table: number, name, a letter per argument, support, what is missing; with tabs between them.
int print_calls() {
  for (const SyscallRow* row : all_syscalls()) {
    std::string kinds;
    for (int i = 0; i < row->arity; ++i) kinds += "sudpt"[static_cast<size_t>(row->kinds[i])];
    const auto& native = native_calls();
    const bool is_native = std::any_of(native.begin(), native.end(), [&](const NativeCall& call) { return call.number == row->number; });
    const char* support = row->support == Support::None ? "none" : row->support == Support::Partial ? "partial" : "full";
    printf("%d\t%s\t%s\t%s\t%s\t%s\n", row->number, row->name, kinds.c_str(), support, is_native ? "native" : "served", row->caveat);
  }
  return 0;
}

bool parse(int argc, char** argv, Options& options) {
  int i = 1;
  for (; i < argc && argv[i][0] == '-'; ++i) {
    const std::string_view word = argv[i];
    if (word == "--strace")
      options.strace = true;
    else if (word == "--no-patch")
      options.patch = false;
    else if (word == "--bare")
      options.mounts = false;
    else if (word == "--terminal")
      options.terminal = true;
    else if (word == "--root" && i + 1 < argc)
      options.root = argv[++i];
    else if (word == "--hostname" && i + 1 < argc)
      options.hostname = argv[++i];
    else
      return false;
  }
  options.command.assign(argv + i, argv + argc);
  return !options.command.empty();
}

}  // namespace
}  // namespace caisson::kernel

int main(int argc, char** argv) {
  using namespace caisson::kernel;
  Options options;
  if (argc == 2 && strcmp(argv[1], "--calls") == 0) return print_calls();
  if (!parse(argc, argv, options)) {
    fputs("usage: kernel_run [--strace] [--no-patch] [--bare] [--terminal] [--root FOLDER] [--hostname NAME] PROGRAM [ARGUMENTS...]\n",
          stderr);
    return 125;
  }
  klog_configure(2, options.strace ? LogLevel::Debug : LogLevel::Info);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  use_few_areas();
  // A PID namespace: whatever happens, nothing outlives the kernel.
  if (unshare(CLONE_NEWPID) != 0) return fail("unshare", host_errno());
  const pid_t child = fork();
  if (child < 0) return fail("fork", host_errno());
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Result<int> status = run(options);
    fflush(nullptr);
    _exit(status ? *status : fail("cannot run the program", status.error()));
  }
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::signal(signal, SIG_IGN);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
