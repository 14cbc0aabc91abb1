// containerd's Sandbox API (containerd.runtime.sandbox.v1.Sandbox), for runtimes with `sandboxer = "shim"`: a pod without a pause
// container. A process of our own holds the pod's namespaces; containers then come by the task API of the same daemon.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "host/event_loop.h"
#include "shim/task_service.h"

// One row per method: name, request, response.
#define CAISSON_POD_METHODS(X)                                        \
  X(CreateSandbox, CreateSandboxRequest, CreateSandboxResponse)       \
  X(StartSandbox, StartSandboxRequest, StartSandboxResponse)          \
  X(Platform, PlatformRequest, PlatformResponse)                      \
  X(StopSandbox, StopSandboxRequest, StopSandboxResponse)             \
  X(WaitSandbox, WaitSandboxRequest, WaitSandboxResponse)             \
  X(SandboxStatus, SandboxStatusRequest, SandboxStatusResponse)       \
  X(PingSandbox, SandboxPingRequest, SandboxPingResponse)             \
  X(ShutdownSandbox, ShutdownSandboxRequest, ShutdownSandboxResponse) \
  X(SandboxMetrics, SandboxMetricsRequest, SandboxMetricsResponse)

namespace caisson::shim {

class SandboxService {
 public:
  static constexpr const char* kName = "containerd.runtime.sandbox.v1.Sandbox";

  // folder: for the pod's own bundle; its parent is there. tasks must outlive this object.
  SandboxService(host::EventLoop& loop, std::string folder, TaskService& tasks);
  ~SandboxService();

  // Answers a call of service kName.
  void handle(rpc::Call call);

 private:
  // None -> Created -> Starting -> Ready -> Stopped; Starting -> Created when it fails.
  enum class Phase { None, Created, Starting, Ready, Stopped };

#define CAISSON_METHOD(Name, Request, Response) void Name(containerd::Request request, sandbox::Reply<containerd::Response> reply);
  CAISSON_POD_METHODS(CAISSON_METHOD)
#undef CAISSON_METHOD

  // EINVAL, ENOENT or EBUSY where the pod is not the one that is asked for, or not in one of these phases.
  Result<void> expect(const std::string& id, std::initializer_list<Phase> phases) const;
  Result<void> make_bundle(const containerd::CreateSandboxRequest& request);
  void create_holder(sandbox::Sandbox& sandbox, sandbox::Reply<containerd::StartSandboxResponse> reply);
  void start_holder(sandbox::Sandbox& sandbox, int pid, sandbox::Reply<containerd::StartSandboxResponse> reply);
  void remove_holder(std::function<void()> done);
  void watch_holder(sandbox::Sandbox& sandbox);
  void ended(uint32_t status, int64_t at_unix_nanos);
  void kill_all(sandbox::Sandbox& sandbox);

  host::EventLoop& loop_;
  const std::string folder_;
  TaskService& tasks_;
  Phase phase_ = Phase::None;
  std::string id_;
  std::string spec_;
  uint32_t pid_ = 0;
  int64_t created_at_unix_nanos_ = 0;
  uint32_t exit_status_ = 0;
  int64_t exited_at_unix_nanos_ = 0;
  std::vector<std::function<void()>> waiters_;  // for its end
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace caisson::shim
