// The task API (containerd.task.v2.Task and v3, the same messages) over one sandbox: the containers of one pod.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "host/event_loop.h"
#include "rpc/ttrpc.h"
#include "sandbox/process.h"
#include "shim/publisher.h"
#include "shim/task.h"

// One row per method: name, request, response.
#define CAISSON_TASK_METHODS(X)                    \
  X(State, StateRequest, StateResponse)            \
  X(Create, CreateTaskRequest, CreateTaskResponse) \
  X(Start, StartRequest, StartResponse)            \
  X(Delete, DeleteRequest, DeleteResponse)         \
  X(Pids, PidsRequest, PidsResponse)               \
  X(Pause, PauseRequest, Empty)                    \
  X(Resume, ResumeRequest, Empty)                  \
  X(Checkpoint, CheckpointTaskRequest, Empty)      \
  X(Kill, KillRequest, Empty)                      \
  X(Exec, ExecProcessRequest, Empty)               \
  X(ResizePty, ResizePtyRequest, Empty)            \
  X(CloseIO, CloseIORequest, Empty)                \
  X(Update, UpdateTaskRequest, Empty)              \
  X(Wait, WaitRequest, WaitResponse)               \
  X(Stats, StatsRequest, StatsResponse)            \
  X(Connect, ConnectRequest, ConnectResponse)      \
  X(Shutdown, ShutdownRequest, Empty)

namespace caisson::shim {

class TaskService {
 public:
  struct Options {
    std::string namespace_;
    std::string isolation;            // "" takes the configuration's
    containerd::Any runtime_options;  // of the handler, for a Create that brings none
    std::string sandbox_dir;          // the sandbox's own folder; made at the first Create
    std::string sandbox_id;
    bool debug = false;
  };
  // stopped() runs when Shutdown has been answered: nothing remains.
  TaskService(host::EventLoop& loop, Options options, Publisher& publisher, sandbox::SandboxFactory factory, std::function<void()> stopped);
  ~TaskService();

  // Answers a call of either service name; others get ENOTSUP (Unimplemented).
  void handle(rpc::Call call);

  // The pod's sandbox, made for its first container, whose config.json spec is; options: of the runtime, as Create has them.
  Result<sandbox::Sandbox*> ensure_sandbox(const containerd::Any& options, const std::string& spec);
  sandbox::Sandbox* sandbox() { return sandbox_.get(); }
  bool has_tasks() const { return !tasks_.empty(); }
  // Calls use with a pid that means something on the node, for a process that the sandbox calls pid.
  void with_host_pid(int pid, std::function<void(uint32_t)> use);
  // The daemon outlives its last task: the Sandbox API ends it.
  void keep_alive() { kept_alive_ = true; }
  // Ends the sandbox with all that is in it, and then the daemon.
  void shut_down();

 private:
#define CAISSON_METHOD(Name, Request, Response) void Name(containerd::Request request, sandbox::Reply<containerd::Response> reply);
  CAISSON_TASK_METHODS(CAISSON_METHOD)
#undef CAISSON_METHOD

  Result<Task*> find_task(const std::string& id);
  Result<std::shared_ptr<Process>> find_process(const std::string& id, const std::string& exec_id);
  void create_in_sandbox(const containerd::CreateTaskRequest& request, std::string spec, std::unique_ptr<Streams> streams,
                         sandbox::Reply<containerd::CreateTaskResponse> reply);
  void publish_created(const containerd::CreateTaskRequest& request, uint32_t pid);
  void start_init(std::shared_ptr<Process> process, sandbox::Reply<containerd::StartResponse> reply);
  void start_exec(std::shared_ptr<Process> process, sandbox::Reply<containerd::StartResponse> reply);
  void delete_init(Task& task, sandbox::Reply<containerd::DeleteResponse> reply);
  void wait_for(std::shared_ptr<Process> process);
  void exit_known(std::shared_ptr<Process> process);
  void announce_exit(const std::shared_ptr<Process>& process);
  void poll_events(uint64_t after);

  host::EventLoop& loop_;
  Options options_;
  Publisher& publisher_;
  sandbox::SandboxFactory factory_;
  std::function<void()> stopped_;
  std::unique_ptr<sandbox::Sandbox> sandbox_;
  std::string isolation_;  // of sandbox_
  bool kept_alive_ = false;
  std::map<std::string, std::unique_ptr<Task>> tasks_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // callbacks outlive us: they look here first
};

}  // namespace caisson::shim
