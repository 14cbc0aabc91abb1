// create, start and run.
#include <unistd.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/foreground.h"
#include "cli/lifecycle.h"

namespace caisson::cli {
namespace {

namespace v1 = sandbox::v1;

void declare_create(Arguments& arguments, CreateRequest& request) {
  arguments.option("--bundle,-b", request.bundle, "DIR", "Folder with config.json (default: the current folder)");
  arguments.option("--console-socket", request.console_socket, "SOCKET", "Unix socket that gets the terminal's master (SCM_RIGHTS)");
  arguments.option("--pid-file", request.pid_file, "FILE", "Write the process id to this file");
  arguments.flag("--no-pivot", request.no_pivot, "Do not use pivot_root(2): for a root file system on a ramdisk");
  arguments.flag("--no-new-keyring", request.no_new_keyring, "Keep the caller's session keyring");
  arguments.option("--preserve-fds", request.preserve_fds, "N", "Pass N more descriptors, from 3 on");
}

constexpr const char* kIdHelp = "Name of the container, unique below --root";

Result<void> start_container(sandbox::SandboxClient& client, const std::string& id) {
  v1::StartContainerRequest request;
  request.set_container_id(id);
  Result<v1::StartContainerResponse> response = client.StartContainer(request, {}, kHookTimeout);
  if (!response.ok()) return std::move(response).error();
  return {};
}

// Frees the container when it goes out of scope.
class Freed {
 public:
  Freed(Store store, std::string id, bool keep) : store_(std::move(store)), id_(std::move(id)), keep_(keep) {}
  ~Freed() {
    if (keep_) return;
    if (Result<void> freed = free_container(store_, id_); !freed.ok()) log::warning("{}", freed.error().message());
  }
  Freed(const Freed&) = delete;
  Freed& operator=(const Freed&) = delete;
  void keep() { keep_ = true; }

 private:
  Store store_;
  std::string id_;
  bool keep_;
};

}  // namespace

Result<int> create_command(Context& context) {
  CreateRequest request;
  declare_create(context.arguments, request);
  context.arguments.positional("container-id", request.id, kIdHelp);
  TRY(context.parse());
  TRY(create_container(context.globals, request));
  return 0;
}

Result<int> start_command(Context& context) {
  std::string id;
  context.arguments.positional("container-id", id, "The created container");
  TRY(context.parse());
  Store store = open_store(context.globals);
  ContainerState state = TRY(store.load(id));
  ContainerStatus status = TRY(container_status(store, state));
  if (status.status == "stopped") return Error(EINVAL, "cannot start a container that has stopped");
  if (status.status == "creating") return make_error(EBUSY, "container {} is still being created", id);
  if (status.status != "created") return Error(EINVAL, "cannot start an already running container");
  sandbox::SandboxClient client = TRY(connect_sandbox(store, id));
  TRY(start_container(client, id));
  return 0;
}

Result<int> run_command(Context& context) {
  CreateRequest request;
  bool detach = false, keep = false, no_subreaper = false;
  declare_create(context.arguments, request);
  context.arguments.flag("--detach,-d", detach, "Return as soon as the container runs");
  context.arguments.flag("--keep", keep, "Do not delete the container when it has ended");
  context.arguments.flag("--no-subreaper", no_subreaper, "Accepted for runc's sake; caisson is never a subreaper");
  context.arguments.positional("container-id", request.id, kIdHelp);
  TRY(context.parse());
  request.foreground = !detach;
  CreatedContainer created = TRY(create_container(context.globals, request));
  Store store = open_store(context.globals);
  if (detach) {
    Freed freed(store, request.id, false);
    TRY(start_container(created.client, request.id));
    freed.keep();
    return 0;
  }
  Freed freed(store, request.id, keep);
  Result<int> status = run_in_foreground(
      {.socket = sandbox_socket(store, request.id), .container_id = request.id, .start = true, .terminal = std::move(created.terminal)});
  return status;
}

}  // namespace caisson::cli
