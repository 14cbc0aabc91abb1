// The task API's calls about what is there already.
#include <unistd.h>

#include "base/log.h"
#include "host/cgroup.h"
#include "shim/metrics.h"
#include "shim/task_service.h"

namespace caisson::shim {

using sandbox::Reply;
namespace v1 = sandbox::v1;

namespace {

constexpr const char* kExecDetailsType = "containerd.runc.v1.ProcessDetails";

// A reply for a sandbox call whose answer carries nothing: passes success or the error on.
template <typename SandboxResponse>
Reply<SandboxResponse> as_empty(Reply<containerd::Empty> reply) {
  return [reply = std::move(reply)](Result<SandboxResponse> done) {
    if (!done.ok()) return reply(std::move(done).error());
    reply(containerd::Empty());
  };
}

containerd::TaskStatus task_status(const Task& task, const Process& process) {
  switch (process.phase) {
    case Process::Phase::Created:
    case Process::Phase::Starting:
      return containerd::CREATED;
    case Process::Phase::Exited:
      return containerd::STOPPED;
    case Process::Phase::Running:
      return task.paused ? containerd::PAUSED : containerd::RUNNING;
  }
  return containerd::UNKNOWN;
}

}  // namespace

void TaskService::State(containerd::StateRequest request, Reply<containerd::StateResponse> reply) {
  auto task = find_task(request.id());
  if (!task.ok()) return reply(std::move(task).error());
  auto process = (*task)->find(request.exec_id());
  if (!process.ok()) return reply(std::move(process).error());
  containerd::StateResponse response;
  response.set_id(request.id());
  response.set_exec_id(request.exec_id());
  response.set_bundle((*task)->bundle);
  response.set_pid((*process)->pid);
  response.set_status(task_status(**task, **process));
  response.set_stdin((*process)->names.in);
  response.set_stdout((*process)->names.out);
  response.set_stderr((*process)->names.err);
  response.set_terminal((*process)->names.terminal);
  if ((*process)->phase == Process::Phase::Exited) {
    response.set_exit_status((*process)->exit_status);
    *response.mutable_exited_at() = timestamp((*process)->exited_at_unix_nanos);
  }
  reply(std::move(response));
}

void TaskService::Wait(containerd::WaitRequest request, Reply<containerd::WaitResponse> reply) {
  auto process = find_process(request.id(), request.exec_id());
  if (!process.ok()) return reply(std::move(process).error());
  if ((*process)->phase != Process::Phase::Exited) return (*process)->waiters.push_back(std::move(reply));
  containerd::WaitResponse response;
  response.set_exit_status((*process)->exit_status);
  *response.mutable_exited_at() = timestamp((*process)->exited_at_unix_nanos);
  reply(std::move(response));
}

void TaskService::Kill(containerd::KillRequest request, Reply<containerd::Empty> reply) {
  auto process = find_process(request.id(), request.exec_id());
  if (!process.ok()) return reply(std::move(process).error());
  if ((*process)->phase == Process::Phase::Exited) return reply(make_error(ENOENT, "process already finished: not found"));
  if (!request.exec_id().empty() && (*process)->phase == Process::Phase::Created)
    return reply(make_error(EBUSY, "exec process {} has not been started", request.exec_id()));
  v1::SignalProcessRequest signal;
  signal.set_container_id(request.id());
  signal.set_exec_id(request.exec_id());
  signal.set_signal(static_cast<int32_t>(request.signal()));
  signal.set_all(request.all());
  sandbox_->SignalProcess(std::move(signal), {}, [reply](Result<v1::SignalProcessResponse> done) {
    if (done.ok()) return reply(containerd::Empty());
    int code = done.error().code();
    reply(code == ESRCH ? make_error(ENOENT, "process already finished: not found") : std::move(done).error());
  });
}

void TaskService::Pids(containerd::PidsRequest request, Reply<containerd::PidsResponse> reply) {
  auto task = find_task(request.id());
  if (!task.ok()) return reply(std::move(task).error());
  v1::ListProcessesRequest list;
  list.set_container_id(request.id());
  sandbox_->ListProcesses(std::move(list), {}, [reply](Result<v1::ListProcessesResponse> listed) {
    if (!listed.ok()) return reply(std::move(listed).error());
    containerd::PidsResponse response;
    for (const auto& process : listed->processes()) {
      containerd::ProcessInfo* info = response.add_processes();
      info->set_pid(static_cast<uint32_t>(process.pid()));
      if (process.exec_id().empty()) continue;
      // ProcessDetails { string exec_id = 1; } has the encoding of any message whose first field is a string.
      containerd::StartRequest details;
      details.set_id(process.exec_id());
      info->mutable_info()->set_type_url(kExecDetailsType);
      info->mutable_info()->set_value(details.SerializeAsString());
    }
    reply(std::move(response));
  });
}

void TaskService::Pause(containerd::PauseRequest request, Reply<containerd::Empty> reply) {
  auto task = find_task(request.id());
  if (!task.ok()) return reply(std::move(task).error());
  v1::PauseContainerRequest pause;
  pause.set_container_id(request.id());
  sandbox_->PauseContainer(std::move(pause), {}, [this, alive = alive_, id = request.id(), reply](Result<v1::PauseContainerResponse> done) {
    if (!*alive) return;
    if (!done.ok()) return reply(std::move(done).error());
    if (auto task = find_task(id); task.ok()) (*task)->paused = true;
    containerd::TaskPaused event;
    event.set_container_id(id);
    publisher_.publish("/tasks/paused", "containerd.events.TaskPaused", event);
    reply(containerd::Empty());
  });
}

void TaskService::Resume(containerd::ResumeRequest request, Reply<containerd::Empty> reply) {
  auto task = find_task(request.id());
  if (!task.ok()) return reply(std::move(task).error());
  v1::ResumeContainerRequest resume;
  resume.set_container_id(request.id());
  sandbox_->ResumeContainer(std::move(resume), {},
                            [this, alive = alive_, id = request.id(), reply](Result<v1::ResumeContainerResponse> done) {
                              if (!*alive) return;
                              if (!done.ok()) return reply(std::move(done).error());
                              if (auto task = find_task(id); task.ok()) (*task)->paused = false;
                              containerd::TaskResumed event;
                              event.set_container_id(id);
                              publisher_.publish("/tasks/resumed", "containerd.events.TaskResumed", event);
                              reply(containerd::Empty());
                            });
}

void TaskService::Checkpoint(containerd::CheckpointTaskRequest request, Reply<containerd::Empty> reply) {
  reply(make_error(ENOTSUP, "container {}: checkpoints are not supported", request.id()));
}

void TaskService::ResizePty(containerd::ResizePtyRequest request, Reply<containerd::Empty> reply) {
  auto process = find_process(request.id(), request.exec_id());
  if (!process.ok()) return reply(std::move(process).error());
  v1::ResizePtyRequest resize;
  resize.set_container_id(request.id());
  resize.set_exec_id(request.exec_id());
  resize.set_rows(request.height());
  resize.set_columns(request.width());
  sandbox_->ResizePty(std::move(resize), {}, as_empty<v1::ResizePtyResponse>(std::move(reply)));
}

void TaskService::CloseIO(containerd::CloseIORequest request, Reply<containerd::Empty> reply) {
  auto process = find_process(request.id(), request.exec_id());
  if (!process.ok()) return reply(std::move(process).error());
  if (request.stdin() && (*process)->streams) (*process)->streams->close_stdin();
  reply(containerd::Empty());
}

void TaskService::Update(containerd::UpdateTaskRequest request, Reply<containerd::Empty> reply) {
  auto task = find_task(request.id());
  if (!task.ok()) return reply(std::move(task).error());
  v1::UpdateContainerRequest update;
  update.set_container_id(request.id());
  update.set_resources(request.resources().value());
  sandbox_->UpdateContainer(std::move(update), {}, as_empty<v1::UpdateContainerResponse>(std::move(reply)));
}

void TaskService::Stats(containerd::StatsRequest request, Reply<containerd::StatsResponse> reply) {
  auto task = find_task(request.id());
  if (!task.ok()) return reply(std::move(task).error());
  auto layout = host::cgroup_layout();
  if (!layout.ok()) return reply(std::move(layout).error());
  v1::StatsRequest stats;
  stats.set_container_id(request.id());
  sandbox_->Stats(std::move(stats), {}, [reply, version = layout->version](Result<v1::StatsResponse> sampled) {
    if (!sampled.ok()) return reply(std::move(sampled).error());
    containerd::StatsResponse response;
    *response.mutable_stats() = metrics_of(*sampled, version);
    reply(std::move(response));
  });
}

void TaskService::Connect(containerd::ConnectRequest request, Reply<containerd::ConnectResponse> reply) {
  containerd::ConnectResponse response;
  response.set_shim_pid(static_cast<uint32_t>(getpid()));
  if (auto task = find_task(request.id()); task.ok()) response.set_task_pid((*task)->init->pid);
  response.set_version("v2");
  reply(std::move(response));
}

void TaskService::Shutdown(containerd::ShutdownRequest request, Reply<containerd::Empty> reply) {
  reply(containerd::Empty());
  if ((!tasks_.empty() || kept_alive_) && !request.now()) return;
  shut_down();
}

void TaskService::shut_down() {
  if (!sandbox_) return stopped_();
  v1::ShutdownRequest shutdown;
  shutdown.set_force(true);
  sandbox_->Shutdown(std::move(shutdown), {}, [this, alive = alive_](Result<v1::ShutdownResponse> done) {
    if (!*alive) return;
    if (!done.ok()) log::warning("shutdown of the sandbox: {}", done.error().message());
    stopped_();
  });
}

void TaskService::poll_events(uint64_t after) {
  v1::EventsRequest request;
  request.set_after_sequence(after);
  sandbox_->Events(std::move(request), {}, [this, alive = alive_, after](Result<v1::EventsResponse> answer) {
    if (!*alive || !answer.ok()) return;
    uint64_t last = after;
    for (const v1::Event& event : answer->events()) {
      last = std::max(last, event.sequence());
      if (event.kind() != v1::Event::OOM) continue;
      containerd::TaskOOM oom;
      oom.set_container_id(event.container_id());
      publisher_.publish("/tasks/oom", "containerd.events.TaskOOM", oom);
    }
    loop_.post([this, alive, last] {
      if (*alive) poll_events(last);
    });
  });
}

}  // namespace caisson::shim
