#include "cli/lifecycle.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/log.h"
#include "cli/bundle.h"
#include "cli/holder.h"
#include "cli/interrupt.h"
#include "cli/sandbox_log.h"
#include "cli/streams.h"
#include "cli/terminal.h"
#include "host/files.h"
#include "microvm/check.h"
#include "oci/parse.h"
#include "oci/support.h"
#include "sandbox/process.h"

namespace caisson::cli {
namespace {

namespace v1 = sandbox::v1;

// Frees a container's folder and what it stands for, unless create comes through.
class Undo {
 public:
  Undo(const Store& store, std::string id) : store_(store), id_(std::move(id)) {}
  ~Undo() {
    if (!armed_) return;
    if (Result<void> freed = free_container(store_, id_); !freed.ok()) log::warning("{}", freed.error().message());
  }
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  void disarm() { armed_ = false; }

 private:
  const Store& store_;
  std::string id_;
  bool armed_ = true;
};

// Both ends of a console: the engine's socket, or a pair of our own when we relay.
struct Console {
  UniqueFd for_sandbox;
  UniqueFd ours;
};

Result<Console> open_console(const CreateRequest& request, bool terminal) {
  Console console;
  if (!terminal) return console;
  if (!request.console_socket.empty()) {
    console.for_sandbox = TRY(connect_console_socket(request.console_socket));
    return console;
  }
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("cannot make a socket pair for the terminal");
  console.for_sandbox.reset(pair[0]);
  console.ours.reset(pair[1]);
  return console;
}

ContainerState initial_state(const CreateRequest& request, const Bundle& bundle) {
  ContainerState state;
  state.id = request.id;
  state.bundle = bundle.path;
  state.rootfs = bundle.spec.root.path;
  state.created = timestamp_now();
  state.owner = getuid();
  state.terminal = bundle.spec.process.terminal;
  state.annotations = bundle.spec.annotations;
  return state;
}

Result<std::string> resolve_isolation(const Globals& globals, const oci::Spec& spec, const sandbox::RuntimeConfig& config) {
  std::string chosen = TRY(chosen_isolation(globals.isolation, spec, config.isolation));
  if (chosen == "auto") return microvm::resolve_auto(config);
  if (chosen == "microvm") microvm::prove_accel(config);
  return chosen;
}

Result<sandbox::SandboxClient> start_sandbox(const Globals& globals, const std::string& dir, const ContainerState& state,
                                             sandbox::RuntimeConfig config) {
  sandbox::SandboxContext context;
  context.dir = dir;
  context.id = state.id;
  context.isolation = state.isolation;
  context.config = std::move(config);
  context.debug = globals.debug;
  return sandbox::spawn_sandbox_process(context);
}

// The id of the pod's sandbox, where the engine says that this container belongs to one and it is a micro-VM of ours: a pod is one machine.
std::string pod_of(const Store& store, const ContainerState& state) {
  if (state.isolation != "microvm") return "";
  for (const char* name : {"io.kubernetes.cri-o.SandboxID", "io.kubernetes.cri.sandbox-id"}) {
    auto annotation = state.annotations.find(name);
    if (annotation == state.annotations.end() || annotation->second == state.id) continue;
    Result<ContainerState> sandbox = store.load(annotation->second);
    if (sandbox.ok() && sandbox->isolation == state.isolation) return sandbox->id;
  }
  return "";
}

// The sandbox process that is to hold the container: its pod's, or a new one.
Result<sandbox::SandboxClient> find_or_start_sandbox(const Globals& globals, const Store& store, const ContainerState& state,
                                                     sandbox::RuntimeConfig config) {
  std::string pod = pod_of(store, state);
  if (pod.empty()) return start_sandbox(globals, store.folder(state.id), state, std::move(config));
  // Every later command finds the sandbox where it would be, had the container one of its own.
  if (symlink(fmt::format("../{}/{}", pod, sandbox::kSocketName).c_str(), sandbox_socket(store, state.id).c_str()) != 0)
    return errno_error("cannot link the sandbox of pod {}", pod);
  Result<sandbox::SandboxClient> client = connect_sandbox(store, state.id);
  if (!client.ok()) return std::move(client).error().within("the pod " + pod);
  return client;
}

Result<v1::CreateContainerResponse> call_create(sandbox::SandboxClient& client, const CreateRequest& request, const Globals& globals,
                                                const Bundle& bundle, int console, pid_t stand_in) {
  v1::CreateContainerRequest message;
  message.set_container_id(request.id);
  message.set_bundle(bundle.path);
  message.set_spec(bundle.text);
  message.set_no_pivot(request.no_pivot);
  message.set_no_new_keyring(request.no_new_keyring);
  message.set_systemd_cgroup(globals.systemd_cgroup);
  message.set_sibling(!request.foreground);
  message.set_stand_in_pid(stand_in);
  StreamPlan plan = TRY(plan_streams(bundle.spec.process.terminal, console, listen_fds() + request.preserve_fds));
  *message.mutable_streams() = plan.streams;
  message.mutable_preserved()->Add(plan.preserved.begin(), plan.preserved.end());
  InterruptGuard guard(client.fd());
  Result<v1::CreateContainerResponse> response = client.CreateContainer(message, plan.fds, kHookTimeout);
  if (!response.ok() && InterruptGuard::signal() != 0) return make_error(EINTR, "interrupted by {}", strsignal(InterruptGuard::signal()));
  return response;
}

std::vector<HolderRequest::Bind> binds_of(const Bundle& bundle) {
  std::vector<HolderRequest::Bind> binds;
  for (const oci::Mount& mount : bundle.spec.mounts) {
    auto has = [&mount](std::string_view option) {
      return std::find(mount.options.begin(), mount.options.end(), option) != mount.options.end();
    };
    if (mount.type != "bind" && !has("bind") && !has("rbind")) continue;
    std::string source = mount.source.starts_with("/") ? mount.source : bundle.path + "/" + mount.source;
    binds.push_back({.source = std::move(source), .destination = mount.destination, .readonly = has("ro")});
  }
  return binds;
}

// What stands on this host for the first process of a container in a micro-VM. Made before the container, so that hooks are told the pid
// that `state` tells.
Result<HolderProcess> start_stand_in(sandbox::SandboxClient& client, const Store& store, const CreateRequest& request,
                                     const Bundle& bundle) {
  // Who answers has come to listen at its socket, too.
  TRY(client.Ping({}, {}, kQuickTimeout));
  return HolderProcess::start({.socket = sandbox_socket(store, request.id),
                               .container_id = request.id,
                               .exec_id = "",
                               .rootfs = bundle.spec.root.path,
                               .binds = binds_of(bundle),
                               .namespaces = bundle.spec.linux_.namespaces});
}

// The process that --pid-file names: the real one where it is (or becomes) the engine's child, or where we wait ourselves; else a holder.
// stand_in: given where the real one is not on this host.
Result<sandbox::ProcessIdentity> standing_process(const Store& store, const CreateRequest& request, HolderProcess* stand_in,
                                                  const v1::CreateContainerResponse& created, ContainerState& state) {
  sandbox::ProcessIdentity process{.pid = created.pid()};
  pid_t named = process.pid;
  if (stand_in != nullptr) {
    process.pid = named = TRY(stand_in->wait_for_process());
    state.holder = true;
  } else if (!created.reparented() && !request.foreground) {
    named = TRY(start_holder({.socket = sandbox_socket(store, request.id), .container_id = request.id}));
  }
  // A process that has ended already has no start time: a container that is stopped, which is no error here.
  if (Result<uint64_t> start = sandbox::process_start_time(process.pid); start.ok()) process.start_time = *start;
  if (!request.pid_file.empty()) {
    Result<void> written = host::write_file_atomic(request.pid_file, std::to_string(named), 0644);
    if (!written.ok()) return std::move(written).error().within("--pid-file");
  }
  return process;
}

}  // namespace

Store open_store(const Globals& globals) {
  std::error_code ignored;
  std::filesystem::path absolute = std::filesystem::absolute(globals.root, ignored).lexically_normal();
  std::string root = absolute.string();
  while (root.size() > 1 && root.back() == '/') root.pop_back();
  return Store(root);
}

Result<CreatedContainer> create_container(const Globals& globals, const CreateRequest& request) {
  TRY(check_container_id(request.id));
  Store store = open_store(globals);
  std::optional<Bundle> bundle;
  // What can be wrong without anything made is looked at first.
  if (!request.make_bundle) bundle = TRY(read_bundle(request.bundle, listen_fds()));
  sandbox::RuntimeConfig config = TRY(sandbox::load_config(globals.config));
  std::string dir = TRY(store.make_folder(request.id));
  Undo undo(store, request.id);
  if (request.make_bundle) bundle = TRY(read_bundle(TRY(request.make_bundle(dir)), 0));
  bool terminal = bundle->spec.process.terminal;
  TRY(check_console(terminal, request.foreground, request.console_socket));

  ContainerState state = initial_state(request, *bundle);
  state.isolation = TRY(resolve_isolation(globals, bundle->spec, config));
  // What this isolation cannot honour is refused here, or said and taken out of what the sandbox gets.
  oci::Adapted adapted = TRY(oci::adapt_config(bundle->text, state.isolation));
  for (const std::string& warning : adapted.warnings) log::warning("{}", warning);
  bundle->text = std::move(adapted.json);
  TRY(store.save(state));
  TRY(host::write_file_atomic(dir + "/" + kSavedSpec, bundle->text));

  Console console = TRY(open_console(request, terminal));
  sandbox::SandboxClient client = TRY(find_or_start_sandbox(globals, store, state, std::move(config)));
  std::optional<Result<HolderProcess>> stand_in;
  if (state.isolation == "microvm") stand_in.emplace(start_stand_in(client, store, request, *bundle));
  Result<v1::CreateContainerResponse> created =
      call_create(client, request, globals, *bundle, console.for_sandbox.get(), stand_in && stand_in->ok() ? (*stand_in)->pid() : 0);
  show_sandbox_warnings(dir);
  if (!created.ok()) return std::move(created).error();
  if (stand_in && !stand_in->ok()) return std::move(*stand_in).error();
  console.for_sandbox.reset();
  UniqueFd master;
  if (console.ours) master = TRY(receive_terminal(console.ours.get()));

  state.process = TRY(standing_process(store, request, stand_in ? &**stand_in : nullptr, *created, state));
  state.complete = true;
  TRY(store.save(state));
  undo.disarm();
  return CreatedContainer{std::move(state), std::move(client), std::move(master)};
}

std::string sandbox_socket(const Store& store, const std::string& id) { return store.folder(id) + "/" + sandbox::kSocketName; }

Result<sandbox::SandboxClient> connect_sandbox(const Store& store, const std::string& id) {
  return sandbox::SandboxClient::connect(sandbox_socket(store, id));
}

Result<ContainerStatus> container_status(const Store& store, const ContainerState& state) {
  Result<sandbox::SandboxClient> client = connect_sandbox(store, state.id);
  if (!client.ok()) {
    Result<pid_t> owner = sandbox::lock_holder(store.folder(state.id));
    // A sandbox process that has not come to listen yet.
    if (!state.complete && owner.ok() && *owner != 0) return ContainerStatus{.status = "creating"};
    return ContainerStatus{.status = "stopped"};
  }
  v1::GetStateRequest request;
  request.set_container_id(state.id);
  Result<v1::GetStateResponse> response = client->GetState(request, {}, kQuickTimeout);
  if (!response.ok()) {
    int code = response.error().code();
    if (code == ETIMEDOUT)
      return make_error(ETIMEDOUT, "the sandbox process of {} does not answer; caisson delete --force {} frees it", state.id, state.id);
    return ContainerStatus{.status = code == ENOENT && !state.complete ? "creating" : "stopped"};
  }
  ContainerStatus status{.status = "stopped", .pid = state.process.pid, .exit_status = response->exit_status()};
  // A create that was killed at its very end.
  if (status.pid == 0 && state.isolation != "microvm") status.pid = response->pid();
  switch (response->status()) {
    case v1::STATUS_CREATING:
      status.status = "creating";
      break;
    case v1::STATUS_CREATED:
      status.status = "created";
      break;
    case v1::STATUS_RUNNING:
      status.status = "running";
      break;
    case v1::STATUS_PAUSED:
      status.status = "paused";
      break;
    default:
      status.pid = 0;
  }
  return status;
}

Result<void> free_container(const Store& store, const std::string& id) {
  if (Result<sandbox::SandboxClient> client = connect_sandbox(store, id); client.ok()) {
    // The gentle way: hooks run, the virtual machine ends in order. Whatever comes of it, the folder's leftovers tell what else to free.
    // One that hangs is not waited for.
    if (Result<v1::PingResponse> alive = client->Ping({}, {}, std::chrono::seconds(5)); alive.ok() || alive.error().code() != ETIMEDOUT) {
      v1::DeleteRequest request;
      request.set_container_id(id);
      request.set_force(true);
      Result<v1::DeleteResponse> deleted = client->Delete(request, {}, std::chrono::seconds(30));
      if (!deleted.ok()) log::debug("{}", deleted.error().message());
    }
  }
  return sandbox::free_sandbox_folder(store.folder(id));
}

}  // namespace caisson::cli
