// containerd-shim-caisson-v2: containerd's runtime shim, version 2.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "appkernel/sandbox.h"
#include "containerd.pb.h"
#include "host/files.h"
#include "microvm/check.h"
#include "microvm/vm_sandbox.h"
#include "oci/parse.h"
#include "rpc/ttrpc.h"
#include "sandbox/leftovers.h"
#include "sandbox/process.h"
#include "shim/arguments.h"
#include "shim/bootstrap.h"
#include "shim/daemon.h"
#include "shim/options.h"
#include "shim/pod_spec.h"
#include "shim/publisher.h"
#include "shim/rootfs.h"

namespace caisson::shim {
namespace {

constexpr int kListenerFd = 3;

std::string environment(const char* name) {
  const char* value = getenv(name);
  return value ? value : "";
}

std::string bundle_of(const Arguments& arguments) {
  if (!arguments.bundle.empty()) return arguments.bundle;
  char folder[4096];
  return getcwd(folder, sizeof folder) ? folder : "";
}

Result<std::unique_ptr<sandbox::Sandbox>> make_sandbox(host::EventLoop& loop, const sandbox::SandboxContext& context,
                                                       std::function<void()> ended) {
  if (context.isolation == "microvm") {
    // The command line does so, too. Without it a node on which nobody has run `caisson check` would emulate where it has KVM.
    microvm::prove_accel(context.config);
    return microvm::make_vm_sandbox(loop, context, std::move(ended));
  }
  if (context.isolation == "appkernel") return appkernel::make_appkernel_sandbox(loop, context, std::move(ended));
  sandbox::LocalSandboxOptions options;
  options.dir = context.dir;
  options.isolation = context.isolation;
  return sandbox::make_local_sandbox(loop, options, std::move(ended));
}

sockaddr_un socket_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
  return address;
}

bool is_alive(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = socket_address(path);
  return socket && connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

// ENOENT-free: the caller has found that nobody listens at path.
Result<UniqueFd> listen_at(const std::string& path) {
  unlink(path.c_str());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return errno_error("socket");
  sockaddr_un address = socket_address(path);
  if (bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return errno_error("bind {}", path);
  if (chmod(path.c_str(), 0600) != 0 || listen(socket.get(), 128) != 0) return errno_error("listen at {}", path);
  return socket;
}

// The daemon: a session of its own, nothing inherited but the listener as descriptor 3, our own file executed again so that `ps` shows what
// it serves.
Result<void> spawn_daemon(const Arguments& arguments, const std::string& group, const std::string& ttrpc_address, UniqueFd listener,
                          char** argv) {
  pid_t pid = fork();
  if (pid < 0) return errno_error("fork the shim's daemon");
  if (pid != 0) return {};
  setsid();
  int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  // dup2 onto itself would leave close-on-exec set.
  if (listener.get() == kListenerFd)
    fcntl(kListenerFd, F_SETFD, 0);
  else
    dup2(listener.get(), kListenerFd);
  close_range(kListenerFd + 1, ~0U, 0);
  setenv("CAISSON_SHIM_GROUP", group.c_str(), 1);
  setenv("TTRPC_ADDRESS", ttrpc_address.c_str(), 1);
  // GOMAXPROCS and the like are for Go's shims; the rest of the environment stays.
  std::vector<const char*> words{
      argv[0], "-namespace", arguments.namespace_.c_str(), "-id", arguments.id.c_str(), "-address", arguments.address.c_str()};
  if (arguments.debug) words.push_back("-debug");
  words.push_back("serve");
  words.push_back(nullptr);
  execv("/proc/self/exe", const_cast<char**>(words.data()));
  _exit(127);
}

// Standard input is a pipe with a little in it, or nothing at all: containerd closes it, a person's terminal is not read.
std::string read_stdin() {
  if (isatty(0)) return "";
  struct pollfd ready {
    0, POLLIN, 0
  };
  if (poll(&ready, 1, 2000) <= 0) return "";
  Result<std::string> text = host::read_descriptor(0, 4 << 20);
  return text.ok() ? std::move(text).value() : "";
}

Result<void> start(const Arguments& arguments, char** argv) {
  if (arguments.id.empty()) return make_error(EINVAL, "flag -id is required");
  std::string bundle = bundle_of(arguments);
  BootstrapRequest request = read_bootstrap(read_stdin(), arguments.id, arguments.namespace_);
  // A pod by the Sandbox API has none.
  Result<std::string> config = host::read_file(bundle + "/config.json");
  if (!config.ok() && config.error().code() != ENOENT) return std::move(config).error();
  std::string group = config.ok() ? group_of(*config, arguments.id) : arguments.id;
  TRY(host::mkdir_p(kSocketFolder, 0711));
  std::string path = socket_path(kSocketFolder, arguments.address, arguments.namespace_, group);
  std::string address = "unix://" + path;
  if (!is_alive(path)) {
    std::string events = request.ttrpc_address.empty() ? environment("TTRPC_ADDRESS") : request.ttrpc_address;
    TRY(keep_runtime_options(sandbox_folder(arguments.namespace_, group), request));
    TRY(spawn_daemon(arguments, group, events, TRY(listen_at(path)), argv));
  }
  TRY(host::write_file_atomic(bundle + "/address", address, 0600));
  return host::write_all(1, bootstrap_answer(request.form, address));
}

// One container of a pod whose daemon lives: killed and deleted by the daemon. Nothing where the daemon does not know it.
std::optional<containerd::DeleteResponse> delete_in_pod(const std::string& socket, const std::string& id) {
  constexpr const char* kService = "containerd.task.v2.Task";
  constexpr std::chrono::seconds kPatience{10};
  Result<rpc::Client> client = rpc::Client::connect(socket);
  if (!client.ok()) return {};
  containerd::KillRequest kill;
  kill.set_id(id);
  kill.set_signal(SIGKILL);
  kill.set_all(true);
  containerd::WaitRequest wait;
  wait.set_id(id);
  containerd::DeleteRequest request;
  request.set_id(id);
  // What has ended already cannot be killed; Delete tells what else is wrong.
  if (client->call(kService, "Kill", kill.SerializeAsString(), {}, kPatience).ok())
    (void)client->call(kService, "Wait", wait.SerializeAsString(), {}, kPatience);
  Result<std::string> answer = client->call(kService, "Delete", request.SerializeAsString(), {}, kPatience);
  containerd::DeleteResponse response;
  if (!answer.ok() || !response.ParseFromString(*answer)) return {};
  return response;
}

// After the daemon has died, or to be sure that it is gone: frees everything of the container.
Result<void> remove(const Arguments& arguments) {
  std::string bundle = bundle_of(arguments);
  Result<std::string> config = host::read_file(bundle + "/config.json");
  std::string group = config.ok() ? group_of(*config, arguments.id) : arguments.id;
  const std::string socket = socket_path(kSocketFolder, arguments.address, arguments.namespace_, group);
  containerd::DeleteResponse response;
  response.set_exit_status(128 + SIGKILL);
  *response.mutable_exited_at() = timestamp(now_unix_nanos());
  // Of a pod's containers only the one that the sandbox is named after takes the sandbox with it. What the daemon of another has left
  // behind, if it is dead, goes with that.
  if (group == arguments.id) {
    TRY(sandbox::free_sandbox_folder(sandbox_folder(arguments.namespace_, group)));
    unlink(socket.c_str());
  } else if (auto deleted = delete_in_pod(socket, arguments.id)) {
    response = std::move(*deleted);
  }
  TRY(unmount_rootfs(bundle));
  return host::write_all(1, response.SerializeAsString());
}

Result<void> info() {
  containerd::RuntimeInfo info;
  info.set_name("io.containerd.caisson.v2");
  info.mutable_version()->set_version(CAISSON_VERSION);
  info.mutable_features()->set_type_url("types.containerd.io/opencontainers/runtime-spec/1/features/Features");
  info.mutable_features()->set_value(oci::features_json());
  return host::write_all(1, info.SerializeAsString());
}

int serve(const Arguments& arguments, const std::string& argv0) {
  DaemonOptions options;
  options.arguments = arguments;
  options.isolation = isolation_of_program(argv0);
  options.ttrpc_address = environment("TTRPC_ADDRESS");
  options.group = environment("CAISSON_SHIM_GROUP");
  options.listener.reset(kListenerFd);
  fcntl(kListenerFd, F_SETFD, FD_CLOEXEC);
  return run_daemon(std::move(options), make_sandbox);
}

Result<int> run(const std::vector<std::string>& words, char** argv) {
  Arguments arguments = TRY(parse_arguments(words));
  if (arguments.version) {
    fmt::print("{}:\n  Version:  {}\n  Protocol: v2, v3\n", argv[0], CAISSON_VERSION);
    return 0;
  }
  if (arguments.info) {
    TRY(info());
    return 0;
  }
  if (arguments.command == "serve") return serve(arguments, argv[0]);
  if (arguments.command == "start") {
    TRY(start(arguments, argv));
    return 0;
  }
  if (arguments.command == "delete") {
    TRY(remove(arguments));
    return 0;
  }
  return make_error(EINVAL, "a command is expected: start or delete (containerd calls this program; people use caisson)");
}

}  // namespace
}  // namespace caisson::shim

int main(int argc, char** argv) {
  if (auto status = caisson::appkernel::run_hidden_command(argc, argv)) return *status;
  if (argc == 1 && strcmp(argv[0], caisson::shim::kPauseProgram) == 0) return caisson::shim::run_pause();
  auto status = caisson::shim::run({argv + 1, argv + argc}, argv);
  if (status.ok()) return *status;
  fmt::print(stderr, "{}: {}\n", argv[0], status.error().message());
  return 1;
}
