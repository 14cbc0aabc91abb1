#include "shim/sandbox_service.h"

#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "base/log.h"
#include "host/cgroup.h"
#include "host/files.h"
#include "shim/calls.h"
#include "shim/metrics.h"
#include "shim/pod_spec.h"
#include "shim/publisher.h"

namespace caisson::shim {

using sandbox::Reply;
namespace v1 = sandbox::v1;

namespace {

// What is running when a pod is stopped gets so long to be gone after SIGKILL, where the caller says nothing.
constexpr std::chrono::seconds kStopDeadline{10};

const char* state_name(bool ready) { return ready ? "SANDBOX_READY" : "SANDBOX_NOTREADY"; }

}  // namespace

SandboxService::SandboxService(host::EventLoop& loop, std::string folder, TaskService& tasks)
    : loop_(loop), folder_(std::move(folder)), tasks_(tasks) {}

SandboxService::~SandboxService() { *alive_ = false; }

void SandboxService::handle(rpc::Call call) {
#define CAISSON_METHOD(Name, Request, Response)                        \
  if (call.method == #Name)                                            \
    return decode_and_call<containerd::Request, containerd::Response>( \
        call, [this](containerd::Request request, Reply<containerd::Response> reply) { Name(std::move(request), std::move(reply)); });
  CAISSON_POD_METHODS(CAISSON_METHOD)
#undef CAISSON_METHOD
  call.respond(make_error(ENOTSUP, "method {} of {} is not supported", call.method, call.service));
}

Result<void> SandboxService::expect(const std::string& id, std::initializer_list<Phase> phases) const {
  if (phase_ == Phase::None || id != id_) return make_error(ENOENT, "sandbox {} does not exist: not found", id);
  if (std::find(phases.begin(), phases.end(), phase_) != phases.end()) return {};
  return make_error(EBUSY, "sandbox {} is {}", id,
                    phase_ == Phase::Created    ? "created and not started"
                    : phase_ == Phase::Starting ? "starting"
                    : phase_ == Phase::Ready    ? "started already"
                                                : "stopped");
}

Result<void> SandboxService::make_bundle(const containerd::CreateSandboxRequest& request) {
  std::error_code failed;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed) return make_error(failed.value(), "cannot find this program's own file");
  spec_ = TRY(make_pod_spec(request, program.string()));
  TRY(host::mkdir_p(folder_ + "/rootfs", 0755));
  TRY(host::write_file_atomic(folder_ + "/rootfs" + kPauseProgram, "", 0755));
  return host::write_file_atomic(folder_ + "/config.json", spec_, 0600);
}

void SandboxService::CreateSandbox(containerd::CreateSandboxRequest request, Reply<containerd::CreateSandboxResponse> reply) {
  if (request.sandbox_id().empty()) return reply(make_error(EINVAL, "sandbox_id: must not be empty"));
  if (phase_ != Phase::None) return reply(make_error(EEXIST, "sandbox {} already exists", id_));
  if (tasks_.has_tasks()) return reply(make_error(EBUSY, "this shim serves containers without a sandbox of their own"));
  if (Result<void> made = make_bundle(request); !made.ok()) return reply(std::move(made).error());
  id_ = request.sandbox_id();
  phase_ = Phase::Created;
  created_at_unix_nanos_ = now_unix_nanos();
  tasks_.keep_alive();
  reply(containerd::CreateSandboxResponse());
}

void SandboxService::StartSandbox(containerd::StartSandboxRequest request, Reply<containerd::StartSandboxResponse> reply) {
  if (auto right = expect(request.sandbox_id(), {Phase::Created}); !right.ok()) return reply(std::move(right).error());
  // The options of CreateSandbox are the pod's; the runtime's came with the shim's start.
  auto sandbox = tasks_.ensure_sandbox({}, spec_);
  if (!sandbox.ok()) return reply(std::move(sandbox).error());
  phase_ = Phase::Starting;
  create_holder(**sandbox, std::move(reply));
}

void SandboxService::create_holder(sandbox::Sandbox& sandbox, Reply<containerd::StartSandboxResponse> reply) {
  v1::CreateContainerRequest create;
  create.set_container_id(id_);
  create.set_bundle(folder_);
  set_spec(create, spec_);
  sandbox.CreateContainer(std::move(create), {}, [this, alive = alive_, &sandbox, reply](Result<v1::CreateContainerResponse> created) {
    if (!*alive) return;
    if (created.ok()) return start_holder(sandbox, created->pid(), reply);
    phase_ = Phase::Created;
    reply(std::move(created).error());
  });
}

void SandboxService::start_holder(sandbox::Sandbox& sandbox, int pid, Reply<containerd::StartSandboxResponse> reply) {
  v1::StartContainerRequest start;
  start.set_container_id(id_);
  sandbox.StartContainer(std::move(start), {}, [this, alive = alive_, &sandbox, pid, reply](Result<v1::StartContainerResponse> started) {
    if (!*alive) return;
    if (!started.ok())
      return remove_holder([this, reply, error = started.error()] {
        phase_ = Phase::Created;
        reply(error);
      });
    tasks_.with_host_pid(pid, [this, &sandbox, reply](uint32_t host_pid) {
      pid_ = host_pid;
      phase_ = Phase::Ready;
      watch_holder(sandbox);
      containerd::StartSandboxResponse response;
      response.set_pid(pid_);
      *response.mutable_created_at() = timestamp(created_at_unix_nanos_);
      reply(std::move(response));
    });
  });
}

void SandboxService::watch_holder(sandbox::Sandbox& sandbox) {
  v1::WaitProcessRequest wait;
  wait.set_container_id(id_);
  sandbox.WaitProcess(std::move(wait), {}, [this, alive = alive_](Result<v1::WaitProcessResponse> exit) {
    if (!*alive) return;
    ended(exit.ok() ? static_cast<uint32_t>(exit->exit_status()) : 128 + SIGKILL, exit.ok() ? exit->exited_at_unix_nanos() : 0);
  });
}

void SandboxService::ended(uint32_t status, int64_t at_unix_nanos) {
  if (phase_ == Phase::Stopped) return;
  phase_ = Phase::Stopped;
  exit_status_ = status;
  exited_at_unix_nanos_ = at_unix_nanos ? at_unix_nanos : now_unix_nanos();
  for (auto& waiter : std::exchange(waiters_, {})) waiter();
}

void SandboxService::remove_holder(std::function<void()> done) {
  v1::DeleteRequest remove;
  remove.set_container_id(id_);
  remove.set_force(true);
  tasks_.sandbox()->Delete(std::move(remove), {}, [alive = alive_, done = std::move(done)](Result<v1::DeleteResponse> removed) {
    if (!removed.ok() && removed.error().code() != ENOENT) log::warning("the pod's holder: {}", removed.error().message());
    if (*alive) done();
  });
}

void SandboxService::Platform(containerd::PlatformRequest, Reply<containerd::PlatformResponse> reply) {
  containerd::PlatformResponse response;
  response.mutable_platform()->set_os("linux");
#if defined(__x86_64__)
  response.mutable_platform()->set_architecture("amd64");
#elif defined(__aarch64__)
  response.mutable_platform()->set_architecture("arm64");
#endif
  reply(std::move(response));
}

// Containers first: the holder's end means that the pod has ended.
void SandboxService::kill_all(sandbox::Sandbox& sandbox) {
  sandbox.Ping({}, {}, [this, alive = alive_, &sandbox](Result<v1::PingResponse> answer) {
    if (!*alive) return;
    std::vector<std::string> ids;
    if (answer.ok()) ids.assign(answer->container_ids().begin(), answer->container_ids().end());
    std::erase(ids, id_);
    ids.push_back(id_);
    for (const std::string& id : ids) {
      v1::SignalProcessRequest kill;
      kill.set_container_id(id);
      kill.set_signal(SIGKILL);
      kill.set_all(true);
      sandbox.SignalProcess(std::move(kill), {}, [](Result<v1::SignalProcessResponse>) {});
    }
  });
}

void SandboxService::StopSandbox(containerd::StopSandboxRequest request, Reply<containerd::StopSandboxResponse> reply) {
  if (auto right = expect(request.sandbox_id(), {Phase::Created, Phase::Ready, Phase::Stopped}); !right.ok())
    return reply(std::move(right).error());
  if (phase_ != Phase::Ready) {
    ended(0, 0);
    return reply(containerd::StopSandboxResponse());
  }
  auto answered = std::make_shared<bool>(false);
  waiters_.push_back([reply, answered] {
    if (!std::exchange(*answered, true)) reply(containerd::StopSandboxResponse());
  });
  auto deadline = request.timeout_secs() > 0 ? std::chrono::seconds(request.timeout_secs()) : kStopDeadline;
  loop_.add_timer(deadline, [reply, answered, id = id_, deadline] {
    if (!std::exchange(*answered, true)) reply(make_error(ETIMEDOUT, "sandbox {} has not ended after {} s", id, deadline.count()));
  });
  kill_all(*tasks_.sandbox());
}

void SandboxService::WaitSandbox(containerd::WaitSandboxRequest request, Reply<containerd::WaitSandboxResponse> reply) {
  if (phase_ == Phase::None || request.sandbox_id() != id_)
    return reply(make_error(ENOENT, "sandbox {} does not exist: not found", request.sandbox_id()));
  auto answer = [this, reply] {
    containerd::WaitSandboxResponse response;
    response.set_exit_status(exit_status_);
    *response.mutable_exited_at() = timestamp(exited_at_unix_nanos_);
    reply(std::move(response));
  };
  if (phase_ == Phase::Stopped) return answer();
  waiters_.push_back(answer);
}

void SandboxService::SandboxStatus(containerd::SandboxStatusRequest request, Reply<containerd::SandboxStatusResponse> reply) {
  if (phase_ == Phase::None || request.sandbox_id() != id_)
    return reply(make_error(ENOENT, "sandbox {} does not exist: not found", request.sandbox_id()));
  containerd::SandboxStatusResponse response;
  response.set_sandbox_id(id_);
  response.set_pid(pid_);
  response.set_state(state_name(phase_ == Phase::Ready));
  *response.mutable_created_at() = timestamp(created_at_unix_nanos_);
  if (phase_ == Phase::Stopped) *response.mutable_exited_at() = timestamp(exited_at_unix_nanos_);
  if (!request.verbose() || !tasks_.sandbox()) return reply(std::move(response));
  tasks_.sandbox()->Ping({}, {}, [response, reply](Result<v1::PingResponse> answer) mutable {
    if (answer.ok()) {
      (*response.mutable_info())["isolation"] = answer->isolation();
      (*response.mutable_info())["kernel"] = answer->kernel_release();
    }
    reply(std::move(response));
  });
}

void SandboxService::PingSandbox(containerd::SandboxPingRequest request, Reply<containerd::SandboxPingResponse> reply) {
  if (auto right = expect(request.sandbox_id(), {Phase::Created, Phase::Starting, Phase::Ready, Phase::Stopped}); !right.ok())
    return reply(std::move(right).error());
  reply(containerd::SandboxPingResponse());
}

void SandboxService::SandboxMetrics(containerd::SandboxMetricsRequest request, Reply<containerd::SandboxMetricsResponse> reply) {
  if (auto right = expect(request.sandbox_id(), {Phase::Ready}); !right.ok()) return reply(std::move(right).error());
  auto layout = host::cgroup_layout();
  if (!layout.ok()) return reply(std::move(layout).error());
  v1::StatsRequest stats;
  stats.set_container_id(id_);
  tasks_.sandbox()->Stats(std::move(stats), {}, [id = id_, reply, version = layout->version](Result<v1::StatsResponse> sampled) {
    if (!sampled.ok()) return reply(std::move(sampled).error());
    containerd::SandboxMetricsResponse response;
    *response.mutable_metrics()->mutable_timestamp() = timestamp(now_unix_nanos());
    response.mutable_metrics()->set_id(id);
    *response.mutable_metrics()->mutable_data() = metrics_of(*sampled, version);
    reply(std::move(response));
  });
}

void SandboxService::ShutdownSandbox(containerd::ShutdownSandboxRequest request, Reply<containerd::ShutdownSandboxResponse> reply) {
  if (phase_ != Phase::None && request.sandbox_id() != id_)
    return reply(make_error(ENOENT, "sandbox {} does not exist: not found", request.sandbox_id()));
  reply(containerd::ShutdownSandboxResponse());
  if (phase_ != Phase::None) ended(128 + SIGKILL, 0);
  tasks_.shut_down();
}

}  // namespace caisson::shim
