// kill, delete, pause and resume.
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/lifecycle.h"
#include "cli/signal_names.h"

namespace caisson::cli {
namespace {

namespace v1 = sandbox::v1;

// A container whose sandbox process has died, or hangs, but whose init lives on (`namespace`): the kernel still takes signals for it.
Result<void> signal_directly(const ContainerState& state, int signal) {
  if (state.holder || state.process.pid <= 0) return Error(ESRCH, "container not running");
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, state.process.pid, 0)));
  // Looked at after the descriptor is there: the pid cannot be given to another process any more.
  if (!pidfd || !sandbox::is_alive(state.process)) return Error(ESRCH, "container not running");
  if (syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) != 0)
    return errno_error("cannot signal process {}", state.process.pid);
  return {};
}

}  // namespace

Result<int> kill_command(Context& context) {
  std::string id, name = "TERM";
  bool all = false;
  context.arguments.flag("--all,-a", all, "Send it to every process of the container");
  context.arguments.positional("container-id", id, "The container");
  context.arguments.positional("signal", name, "Number, or name with or without SIG (default TERM)", false);
  TRY(context.parse());
  Store store = open_store(context.globals);
  ContainerState state = TRY(store.load(id));
  int signal = TRY(parse_signal(name));
  Result<sandbox::SandboxClient> client = connect_sandbox(store, id);
  Result<void> sent;
  if (client.ok()) {
    v1::SignalProcessRequest request;
    request.set_container_id(id);
    request.set_signal(signal);
    request.set_all(all);
    Result<v1::SignalProcessResponse> response = client->SignalProcess(request, {}, kQuickTimeout);
    if (!response.ok()) sent = std::move(response).error();
    // A sandbox process that hangs keeps nobody from killing what this kernel runs.
    if (!sent.ok() && sent.error().code() == ETIMEDOUT && !state.holder) sent = signal_directly(state, signal);
  } else {
    sent = signal_directly(state, signal);
  }
  // runc: with --all a container that has ended is no error.
  if (!sent.ok() && sent.error().code() == ESRCH) {
    if (all) return 0;
    return Error(ESRCH, "container not running");
  }
  TRY(std::move(sent));
  return 0;
}

Result<int> delete_command(Context& context) {
  std::string id;
  bool force = false;
  context.arguments.flag("--force,-f", force, "Kill what still runs; a container that does not exist is no error");
  context.arguments.positional("container-id", id, "The container");
  TRY(context.parse());
  Store store = open_store(context.globals);
  TRY(check_container_id(id));
  if (!store.exists(id)) {
    if (force) return 0;
    return make_error(ENOENT, "container does not exist: {}", id);
  }
  if (!force) {
    ContainerState state = TRY(store.load(id));
    ContainerStatus status = TRY(container_status(store, state));
    // As runc: a created container, which has run nothing of the user's yet, may go.
    if (status.status != "stopped" && status.status != "created")
      return make_error(EBUSY, "cannot delete container {} that is not stopped: {}", id, status.status);
  }
  TRY(free_container(store, id));
  return 0;
}

Result<int> pause_command(Context& context) {
  std::string id;
  context.arguments.positional("container-id", id, "The container");
  TRY(context.parse());
  Store store = open_store(context.globals);
  ContainerStatus status = TRY(container_status(store, TRY(store.load(id))));
  if (status.status != "running" && status.status != "created") return Error(EINVAL, "container not running");
  sandbox::SandboxClient client = TRY(connect_sandbox(store, id));
  v1::PauseContainerRequest request;
  request.set_container_id(id);
  TRY(client.PauseContainer(request, {}, std::chrono::seconds(30)));
  return 0;
}

Result<int> resume_command(Context& context) {
  std::string id;
  context.arguments.positional("container-id", id, "The container");
  TRY(context.parse());
  Store store = open_store(context.globals);
  ContainerStatus status = TRY(container_status(store, TRY(store.load(id))));
  if (status.status != "paused") return Error(EINVAL, "container not paused");
  sandbox::SandboxClient client = TRY(connect_sandbox(store, id));
  v1::ResumeContainerRequest request;
  request.set_container_id(id);
  TRY(client.ResumeContainer(request, {}, std::chrono::seconds(30)));
  return 0;
}

}  // namespace caisson::cli
