// LocalContainer: one container of a LocalSandbox: its state, its processes, and the operations on it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "container/container.h"
#include "host/worker.h"
#include "sandbox/leftovers.h"
#include "sandbox/local/events.h"
#include "sandbox/local/operations.h"
#include "sandbox/local/state.h"
#include "sandbox/process.h"

namespace caisson::sandbox::local {

class LocalContainer;

// What the containers of a sandbox share.
struct Core {
  Core(host::EventLoop& loop, LocalSandboxOptions options, std::function<void()> ended)
      : loop(loop), options(std::move(options)), ended(std::move(ended)) {}

  host::EventLoop& loop;
  LocalSandboxOptions options;
  std::function<void()> ended;
  EventLog events;
  std::map<std::string, std::shared_ptr<LocalContainer>> containers;
};

struct Exit {
  int status = 0;  // 0..255, 128 + N where signal N ended it
  int64_t at_unix_nanos = 0;
};
Exit exit_from_wait_status(int wait_status);

// A process that the sandbox started: a container's init, or an exec.
struct Process {
  pid_t pid = 0;  // 0: being started
  UniqueFd pidfd;
  std::optional<Exit> exit;  // once it has been told to everybody
  bool oom_killed = false;
  std::vector<Reply<v1::WaitProcessResponse>> waiters;

  bool alive() const { return !exit; }
  v1::WaitProcessResponse outcome() const;
  // Answers all that wait for its end.
  void tell_waiters();
  void fail_waiters(const Error& error);
};

class LocalContainer : public std::enable_shared_from_this<LocalContainer> {
 public:
  LocalContainer(std::shared_ptr<Core> core, std::string id);

  // Prepares and queues; what can be found wrong at once is the returned error, and then reply is not called and nothing is left.
  Result<void> create(const v1::CreateContainerRequest& request, rpc::Descriptors fds, Reply<v1::CreateContainerResponse> reply);
  void start(Reply<v1::StartContainerResponse> reply);
  void exec(v1::ExecProcessRequest request, rpc::Descriptors fds, Reply<v1::ExecProcessResponse> reply);
  void signal(const v1::SignalProcessRequest& request, Reply<v1::SignalProcessResponse> reply);
  void wait(const std::string& exec_id, Reply<v1::WaitProcessResponse> reply);
  void resize(const v1::ResizePtyRequest& request, Reply<v1::ResizePtyResponse> reply);
  void pause(Reply<v1::PauseContainerResponse> reply);
  void resume(Reply<v1::ResumeContainerResponse> reply);
  void update(const v1::UpdateContainerRequest& request, Reply<v1::UpdateContainerResponse> reply);
  void stats(Reply<v1::StatsResponse> reply);
  void list(Reply<v1::ListProcessesResponse> reply);
  void debug(const v1::DebugRequest& request, Reply<v1::DebugResponse> reply);
  Result<v1::GetStateResponse> state(const std::string& exec_id) const;
  void remove(bool force, Reply<v1::DeleteResponse> reply);
  void remove_exec(const std::string& exec_id, bool force, Reply<v1::DeleteResponse> reply);

  const std::string& id() const { return id_; }
  // The process with that exec_id ("": init); ENOENT naming it.
  Result<Process*> find(const std::string& exec_id);

 private:
  using Turn = OperationQueue::Turn;
  using Work = std::function<Result<host::WorkerOutput>()>;
  using WorkDone = std::function<void(Result<host::WorkerOutput>)>;

  // Runs work in a worker, which keeps only these descriptors; remembered, so that a forced removal can stop it.
  void work(host::WorkerOptions options, Work work, WorkDone done);
  void emit(v1::Event::Kind kind, const std::string& exec_id = {}, int pid = 0, int exit_status = 0);

  // create.cc
  struct Creation;
  void run_creation(std::shared_ptr<Creation> creation, Turn turn);
  void created(std::shared_ptr<Creation> creation, Result<host::WorkerOutput> output, Turn turn);
  Result<void> adopt(const Creation& creation, host::WorkerOutput output);
  void creation_failed(std::shared_ptr<Creation> creation, Error error, Turn turn);
  void forget(bool keep_leftovers = false);

  // exit.cc
  void init_ended(int wait_status);
  void exec_ended(const std::string& exec_id, int wait_status);
  void publish_init_exit();
  bool execs_alive() const;
  void kill_execs_with_init();
  void watch_oom(UniqueFd fd);
  void look_for_oom(int looks);
  // Whether there have been kills since the last look; tells of them.
  bool check_oom();
  void stop_oom_watch();
  void forget_old_execs();

  // exec.cc
  void run_exec(const v1::ExecProcessRequest& request, std::shared_ptr<oci::Process> process, std::shared_ptr<container::Stdio> stdio,
                Reply<v1::ExecProcessResponse> reply, Turn turn);
  Result<void> may_exec(bool ignore_paused) const;
  // A keeper's kernel takes a container with its start; one that runs an exec before that takes it now.
  Result<void> prepare_kernel();

  // control.cc
  std::map<pid_t, std::string> process_names() const;
  // Asks the keeper's kernel. Null where there is none, where it has not begun, or where it is paused with the container.
  Result<std::shared_ptr<KernelAnswer>> ask_kernel(KernelQuestion question) const;

  // remove.cc
  void destroy(Reply<v1::DeleteResponse> reply, Turn turn);
  bool destroyed_at_once();
  void removed(Reply<v1::DeleteResponse> reply);

  Result<void> signal_init(int signal);
  void thaw();

  std::shared_ptr<Core> core_;
  std::string id_;
  State state_ = Creating();
  oci::Spec spec_;
  container::Record record_;
  Process init_;
  std::map<std::string, std::shared_ptr<Process>> execs_;
  OperationQueue queue_;
  std::map<int, std::function<void()>> workers_;  // how to stop those under way
  int next_worker_ = 0;

  std::optional<Exit> init_exit_;  // init has ended, but that cannot be told yet
  bool starting_ = false;
  bool killing_execs_ = false;
  bool gave_up_on_execs_ = false;
  bool gone_ = false;  // removed, or never made
  std::vector<std::function<void()>> on_init_exit_;
  UniqueFd oom_events_;
  uint64_t oom_seen_ = 0;
};

}  // namespace caisson::sandbox::local
