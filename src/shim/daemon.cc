#include "shim/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "host/files.h"
#include "sandbox/leftovers.h"
#include "shim/sandbox_service.h"

namespace caisson::shim {
namespace {

constexpr const char* kOptionsFile = "/runtime-options";
constexpr const char* kPodFolder = "/pod";

// containerd reads the bundle's fifo "log". Without a reader (containerd is restarting) lines are lost, and nothing waits for it.
void log_to_bundle() {
  int fd = open("log", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0) log::to_descriptor(fd);
}

Result<void> serve(DaemonOptions& options, const sandbox::SandboxFactory& factory) {
  auto loop = TRY(host::EventLoop::create());
  Publisher publisher(*loop, options.ttrpc_address, options.arguments.namespace_);
  TaskService::Options service_options;
  service_options.namespace_ = options.arguments.namespace_;
  service_options.isolation = options.isolation;
  service_options.sandbox_dir = sandbox_folder(options.arguments.namespace_, options.group);
  service_options.sandbox_id = options.group;
  service_options.debug = options.arguments.debug;
  // Two turns: the answer to Shutdown goes out first, then the events, then we do.
  auto stopped = [&] { publisher.flush([&] { loop->post([&] { loop->stop(); }); }); };
  TRY(host::mkdir_p(service_options.sandbox_dir, 0700));
  UniqueFd lock = TRY(sandbox::take_lock(service_options.sandbox_dir));
  if (auto kept = host::read_file(service_options.sandbox_dir + kOptionsFile); kept.ok())
    if (!service_options.runtime_options.ParseFromString(*kept)) return make_error(EINVAL, "the runtime's options cannot be decoded");
  TaskService tasks(*loop, service_options, publisher, factory, stopped);
  SandboxService pod(*loop, service_options.sandbox_dir + kPodFolder, tasks);
  rpc::Server server(*loop, [&](rpc::Call call) {
    if (call.service == SandboxService::kName) return pod.handle(std::move(call));
    tasks.handle(std::move(call));
  });
  TRY(server.add_listener(std::move(options.listener)));
  Result<void> outcome = loop->run();
  server.close();
  return outcome;
}

}  // namespace

Result<void> keep_runtime_options(const std::string& folder, const BootstrapRequest& request) {
  if (request.runtime_options.empty()) return {};
  TRY(host::mkdir_p(folder, 0700));
  return host::write_file_atomic(folder + kOptionsFile, request.runtime_options, 0600);
}

std::string sandbox_folder(const std::string& namespace_, const std::string& group) {
  return fmt::format("/run/caisson-shim/{}/{}", namespace_, group);
}

int run_daemon(DaemonOptions options, const sandbox::SandboxFactory& factory) {
  signal(SIGPIPE, SIG_IGN);
  log_to_bundle();
  std::string dir = sandbox_folder(options.arguments.namespace_, options.group);
  Result<void> served = serve(options, factory);
  if (!served.ok()) log::error("{}", served.error().message());
  (void)host::remove_tree(dir);
  return served.ok() ? 0 : 1;
}

}  // namespace caisson::shim
