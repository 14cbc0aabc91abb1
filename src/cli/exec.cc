#include "cli/exec.h"

#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "cli/command.h"
#include "cli/foreground.h"
#include "cli/holder.h"
#include "cli/interrupt.h"
#include "cli/lifecycle.h"
#include "cli/streams.h"
#include "cli/terminal.h"
#include "host/files.h"
#include "oci/parse.h"
#include "oci/support.h"

namespace caisson::cli {
namespace {

namespace v1 = sandbox::v1;

struct ExecRequest {
  std::string id;
  std::string console_socket;
  std::string pid_file;
  std::string cgroup;
  bool detach = false;
  bool ignore_paused = false;
  uint32_t preserve_fds = 0;
};

void declare(Arguments& arguments, ExecRequest& request, ExecOptions& options, std::vector<std::string>& rest) {
  arguments.option("--process,-p", options.process_file, "FILE", "JSON file with the OCI process to run, instead of a command");
  arguments.flag("--tty,-t", options.tty, "Give it a terminal");
  arguments.option("--env,-e", options.env, "NAME=VALUE", "Add a variable to the container's environment; may be given several times");
  arguments.option("--cwd", options.cwd, "DIR", "Current folder (default: the container's)");
  arguments.option("--user,-u", options.user, "UID[:GID]", "User, by number");
  arguments.option("--additional-gids,-g", options.additional_gids, "GID", "One more group; may be given several times");
  arguments.option("--cap,-c", options.caps, "CAPABILITY", "One more capability; may be given several times");
  arguments.flag("--no-new-privs", options.no_new_privs, "Set no_new_privs");
  arguments.option("--apparmor", options.apparmor, "PROFILE", "AppArmor profile");
  arguments.option("--process-label", options.process_label, "LABEL", "SELinux label");
  arguments.flag("--detach,-d", request.detach, "Return as soon as it runs");
  arguments.option("--pid-file", request.pid_file, "FILE", "Write the process id to this file");
  arguments.option("--console-socket", request.console_socket, "SOCKET", "Unix socket that gets the terminal's master (SCM_RIGHTS)");
  arguments.option("--preserve-fds", request.preserve_fds, "N", "Pass N more descriptors, from 3 on");
  arguments.option("--cgroup", request.cgroup, "PATH", "Run it in this existing cgroup below the container's");
  arguments.flag("--ignore-paused", request.ignore_paused, "Allow it in a paused container: the process starts frozen");
  arguments.rest("CONTAINER-ID [COMMAND [ARGUMENTS]]", rest, "", 1);
}

Result<oci::Process> make_process(const Store& store, const std::string& id, const ExecOptions& options) {
  if (!options.process_file.empty()) {
    std::string text = TRY(host::read_file(options.process_file));
    return oci::parse_process(text);
  }
  if (options.args.empty()) return Error(EINVAL, "no command given: caisson exec CONTAINER-ID COMMAND, or --process FILE");
  std::string text = TRY(host::read_file(store.folder(id) + "/" + kSavedSpec));
  oci::Spec spec = TRY(oci::parse_spec(text));
  return exec_process(spec.process, options);
}

// Unique within a sandbox: nobody but us names exec processes there.
std::string new_exec_id() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return fmt::format("exec-{}-{:x}{:08x}", getpid(), now.tv_sec, now.tv_nsec);
}

Result<void> check_status(const Store& store, const ContainerState& state, bool ignore_paused) {
  ContainerStatus status = TRY(container_status(store, state));
  if (status.status == "stopped") return Error(ESRCH, "cannot exec in a stopped container");
  if (status.status == "creating") return Error(EBUSY, "cannot exec in a container that is still being created");
  if (status.status == "paused" && !ignore_paused)
    return Error(EBUSY, "cannot exec in a paused container (use --ignore-paused to override)");
  return {};
}

struct Execed {
  std::string exec_id;
  pid_t pid = 0;
  UniqueFd terminal;
};

Result<Execed> start_process(const Store& store, const ExecRequest& request, oci::Process& process) {
  uint32_t listening = listen_fds();
  if (listening > 0) {
    process.env.push_back(fmt::format("LISTEN_FDS={}", listening));
    process.env.push_back("LISTEN_PID=1");
  }
  TRY(check_console(process.terminal, !request.detach, request.console_socket));
  UniqueFd console, ours;
  if (process.terminal && !request.console_socket.empty()) {
    console = TRY(connect_console_socket(request.console_socket));
  } else if (process.terminal) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("cannot make a socket pair for the terminal");
    console.reset(pair[0]);
    ours.reset(pair[1]);
  }
  Execed execed{.exec_id = new_exec_id()};
  v1::ExecProcessRequest message;
  message.set_container_id(request.id);
  message.set_exec_id(execed.exec_id);
  message.set_process(oci::process_to_json(process));
  message.set_cgroup(request.cgroup);
  message.set_ignore_paused(request.ignore_paused);
  StreamPlan plan = TRY(plan_streams(process.terminal, console.get(), listening + request.preserve_fds));
  *message.mutable_streams() = plan.streams;
  message.mutable_preserved()->Add(plan.preserved.begin(), plan.preserved.end());
  sandbox::SandboxClient client = TRY(connect_sandbox(store, request.id));
  InterruptGuard guard(client.fd());
  Result<v1::ExecProcessResponse> response = client.ExecProcess(message, plan.fds);
  if (!response.ok() && InterruptGuard::signal() != 0) return make_error(EINTR, "interrupted by {}", strsignal(InterruptGuard::signal()));
  execed.pid = TRY(std::move(response)).pid();
  console.reset();
  if (ours) execed.terminal = TRY(receive_terminal(ours.get()));
  return execed;
}

Result<void> write_pid(const std::string& file, pid_t pid) {
  if (file.empty()) return {};
  Result<void> written = host::write_file_atomic(file, std::to_string(pid), 0644);
  if (!written.ok()) return std::move(written).error().within("--pid-file");
  return {};
}

void forget(const Store& store, const ExecRequest& request, const std::string& exec_id) {
  Result<sandbox::SandboxClient> client = connect_sandbox(store, request.id);
  if (!client.ok()) return;
  v1::DeleteRequest message;
  message.set_container_id(request.id);
  message.set_exec_id(exec_id);
  message.set_force(true);
  (void)client->Delete(message, {}, kQuickTimeout).ok();
}

Result<int> run_exec(Context& context, ExecRequest& request, const ExecOptions& options) {
  Store store = open_store(context.globals);
  ContainerState state = TRY(store.load(request.id));
  if (request.cgroup.find(':') != std::string::npos)
    return make_error(ENOTSUP, "--cgroup {}: one controller alone is not supported; give a path for all", request.cgroup);
  oci::Process asked = TRY(make_process(store, request.id, options));
  oci::Adapted adapted = TRY(oci::adapt_process(oci::process_to_json(asked), state.isolation));
  for (const std::string& warning : adapted.warnings) log::warning("{}", warning);
  oci::Process process = TRY(oci::parse_process(adapted.json));
  TRY(check_status(store, state, request.ignore_paused));
  Execed execed = TRY(start_process(store, request, process));
  std::string socket = sandbox_socket(store, request.id);
  if (request.detach) {
    // The holder's pid, never the process's: an engine waits on it, and only the sandbox can tell the process's end.
    Result<pid_t> holder = start_holder({.socket = socket, .container_id = request.id, .exec_id = execed.exec_id});
    Result<void> written;
    if (holder.ok()) written = write_pid(request.pid_file, *holder);
    if (holder.ok() && written.ok()) return 0;
    forget(store, request, execed.exec_id);
    return holder.ok() ? std::move(written).error() : std::move(holder).error();
  }
  // In the foreground we are ourselves a process that ends with its status; on this kernel its own pid serves as well, as runc has it.
  if (Result<void> written = write_pid(request.pid_file, state.isolation != "microvm" ? execed.pid : getpid()); !written.ok()) {
    forget(store, request, execed.exec_id);
    return std::move(written).error();
  }
  Result<int> status =
      run_in_foreground({.socket = socket, .container_id = request.id, .exec_id = execed.exec_id, .terminal = std::move(execed.terminal)});
  forget(store, request, execed.exec_id);
  return status;
}

}  // namespace

Result<int> exec_command(Context& context) {
  ExecRequest request;
  ExecOptions options;
  std::vector<std::string> rest;
  declare(context.arguments, request, options, rest);
  TRY(context.parse());
  request.id = rest.front();
  options.args.assign(rest.begin() + 1, rest.end());
  if (!options.args.empty() && options.args.front() == "--") options.args.erase(options.args.begin());
  Result<int> status = run_exec(context, request, options);
  if (!status.ok()) return std::move(status).error().within("exec failed");
  return status;
}

}  // namespace caisson::cli
