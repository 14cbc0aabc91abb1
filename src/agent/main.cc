// caisson-agent: PID 1 of a micro-VM's guest.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "agent/agent_port.h"
#include "agent/configure.h"
#include "agent/guest_init.h"
#include "agent/processors.h"
#include "agent/reaper.h"
#include "agent/serve.h"
#include "base/log.h"
#include "microvm/hypervisor.h"
#include "sandbox/process.h"

namespace caisson::agent {
namespace {

// The host gives the port to the machine from the start: this is only for a kernel that is very slow.
constexpr std::chrono::seconds kPortPatience{60};

Result<void> run() {
  TRY(initialize_guest());
  UniqueFd port = TRY(open_agent_port(microvm::kAgentPort, kPortPatience));
  auto loop = TRY(host::EventLoop::create());
  auto reaper = TRY(Reaper::create(*loop));
  auto processors = TRY(ProcessorWatch::create(*loop));
  auto containers =
      sandbox::make_local_sandbox(*loop, {.dir = "", .isolation = "microvm", .run_runtime_hooks = false, .in_guest = true}, [] {});
  return serve(*loop, std::move(port), std::move(containers), {.virtio_port = true, .configure = configure_guest});
}

}  // namespace
}  // namespace caisson::agent

int main(int argc, char** argv) {
  using namespace caisson;
  if (getpid() != 1) {
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
      puts("caisson-agent " CAISSON_VERSION);
      return 0;
    }
    fputs("caisson-agent is the first process (init) of a Caisson guest; it is not started by hand.\n", stderr);
    return 64;
  }
  signal(SIGPIPE, SIG_IGN);
  (void)log::configure("", log::Format::Text, log::Level::Info);
  Result<void> ended = agent::run();
  agent::end_guest(ended.ok() ? Error(ESHUTDOWN, "the sandbox was shut down") : std::move(ended).error());
}
