// The sandbox process: one per pod, serving Sandbox on <dir>/sandbox.sock. `caisson` starts it by re-executing itself.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "container/container.h"
#include "sandbox/client.h"
#include "sandbox/config.h"

namespace caisson::sandbox {

inline constexpr const char* kSandboxProcessCommand = "sandbox-process";  // hidden subcommand
inline constexpr const char* kSocketName = "sandbox.sock";

// What a sandbox process is told at its start; travels as JSON in an inherited descriptor.
struct SandboxContext {
  std::string dir;  // <root>/<id>; owned by the sandbox until Shutdown
  std::string id;
  std::string isolation;  // resolved: "namespace" or "microvm"
  RuntimeConfig config;
  std::string log_path;  // "": <dir>/sandbox.log
  bool log_json = false;
  bool debug = false;
  // False for a container of the command line: the process ends by itself when its last container has been deleted. True for a pod's.
  bool keep = false;
};

// Starts a sandbox process as a child (stdin, stdout and stderr are /dev/null, new session, no inherited descriptor, executed from a
// read-only clone of this program's file so that no container can write it through /proc/PID/exe) and connects to it over a socket pair: no
// polling for the socket's name. pid, where given, gets its pid.
Result<SandboxClient> spawn_sandbox_process(const SandboxContext& context, pid_t* pid = nullptr);

// Makes the implementation for context.isolation. Set by the program that links it.
using SandboxFactory =
    std::function<Result<std::unique_ptr<Sandbox>>(host::EventLoop&, const SandboxContext&, std::function<void()> ended)>;

// Body of the hidden subcommand: reads the context, takes the lock, listens, serves until Shutdown or until the implementation calls
// ended(). Returns the exit status.
int sandbox_process_main(int context_fd, int connection_fd, const SandboxFactory& factory);

enum class KernelQuestion { Count, Processes, Tasks };  // each tells all that the one before it does

// What a kernel of processes that are not the host's kernel's says of them, on its way. Asked on the event loop's thread, read once, in a
// worker that keeps the descriptor.
class KernelAnswer {
 public:
  virtual ~KernelAnswer() = default;
  virtual int descriptor() const = 0;
  // names: pid to exec_id of the processes that the sandbox has started.
  virtual Result<v1::DebugResponse> processes(const container::Record& record, const std::map<pid_t, std::string>& names) = 0;
  // Puts that kernel's counts in the place of the cgroup's.
  virtual Result<void> correct(v1::StatsResponse& stats) = 0;
};

// How a container's processes are run where that is not the host's kernel's work (src/appkernel). The container is made as for `namespace`;
// its init and its execs are programs of ours (container::StandIn) that stand for the user's. Called on the event loop's thread.
class ProcessKeeper {
 public:
  virtual ~ProcessKeeper() = default;
  // Turns what the user wants into what the host is to do.
  virtual Result<void> prepare_create(oci::Spec& spec, container::Stdio& stdio, container::CreateOptions& options) = 0;
  // The container is made.
  virtual void created(const container::Record& record) = 0;
  virtual Result<void> prepare_exec(const std::string& id, const std::string& exec_id, oci::Process& process, container::Stdio& stdio,
                                    container::ExecOptions& options) = 0;
  // Turns new resources into what the host is to hold; tell_limits() when it does.
  virtual void prepare_update(const std::string& id, oci::Resources& resources) = 0;
  virtual Result<void> tell_limits(const std::string& id) = 0;
  virtual Result<std::unique_ptr<KernelAnswer>> ask(const std::string& id, KernelQuestion question) = 0;
  // To every process; not SIGKILL, which is the host's work.
  virtual Result<void> signal_all(const std::string& id, int signal) = 0;
  virtual Result<void> log_calls(const std::string& id, bool on) = 0;
  // The container has gone.
  virtual void forget(const std::string& id) = 0;
  // What Ping says of the kernel.
  virtual std::string kernel_release() const = 0;
  virtual std::string kernel_version() const = 0;
};

// Runs a namespace sandbox's or the agent's containers through src/container. dir "" (agent): keeps no files. ended(): Shutdown has been
// answered, or, without keep, there is no container left.
struct LocalSandboxOptions {
  std::string dir;
  std::string isolation = "namespace";
  bool run_runtime_hooks = true;
  bool in_guest = false;  // the agent
  bool keep = false;      // SandboxContext::keep
  std::shared_ptr<ProcessKeeper> keeper;
};
std::unique_ptr<Sandbox> make_local_sandbox(host::EventLoop& loop, LocalSandboxOptions options, std::function<void()> ended);

}  // namespace caisson::sandbox
