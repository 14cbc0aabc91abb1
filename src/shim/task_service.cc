#include "shim/task_service.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "host/files.h"
#include "host/worker.h"
#include "shim/calls.h"
#include "shim/options.h"
#include "shim/pod_spec.h"
#include "shim/rootfs.h"

namespace caisson::shim {

using sandbox::Reply;
namespace v1 = sandbox::v1;

namespace {

constexpr const char* kServices[] = {"containerd.task.v2.Task", "containerd.task.v3.Task"};

v1::Stream* attach(rpc::Descriptors& fds, int fd, v1::Stream* stream) {
  stream->set_descriptor(static_cast<uint32_t>(fds.size()));
  fds.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  return stream;
}

// The process's ends of its streams as the sandbox takes them.
v1::Streams pass_streams(const Streams& streams, rpc::Descriptors& fds) {
  v1::Streams passed;
  if (streams.console_socket() >= 0) attach(fds, streams.console_socket(), passed.mutable_terminal());
  if (streams.in() >= 0) attach(fds, streams.in(), passed.mutable_stdin());
  if (streams.out() >= 0) attach(fds, streams.out(), passed.mutable_stdout());
  if (streams.err() >= 0) attach(fds, streams.err(), passed.mutable_stderr());
  return passed;
}

}  // namespace

Result<std::shared_ptr<Process>> Task::find(const std::string& exec_id) const {
  if (exec_id.empty()) return init;
  auto row = execs.find(exec_id);
  if (row == execs.end()) return make_error(ENOENT, "exec process {} of container {} does not exist: not found", exec_id, id);
  return row->second;
}

bool Task::has_live_exec() const {
  for (const auto& [exec_id, process] : execs)
    if (process->phase == Process::Phase::Running || process->phase == Process::Phase::Starting) return true;
  return false;
}

TaskService::TaskService(host::EventLoop& loop, Options options, Publisher& publisher, sandbox::SandboxFactory factory,
                         std::function<void()> stopped)
    : loop_(loop), options_(std::move(options)), publisher_(publisher), factory_(std::move(factory)), stopped_(std::move(stopped)) {}

TaskService::~TaskService() { *alive_ = false; }

void TaskService::handle(rpc::Call call) {
  bool ours = false;
  for (const char* service : kServices) ours = ours || call.service == service;
  if (!ours) return call.respond(make_error(ENOTSUP, "service {} is not served here", call.service));
#define CAISSON_METHOD(Name, Request, Response)                        \
  if (call.method == #Name)                                            \
    return decode_and_call<containerd::Request, containerd::Response>( \
        call, [this](containerd::Request request, Reply<containerd::Response> reply) { Name(std::move(request), std::move(reply)); });
  CAISSON_TASK_METHODS(CAISSON_METHOD)
#undef CAISSON_METHOD
  call.respond(make_error(ENOTSUP, "method {} of {} is not supported", call.method, call.service));
}

Result<Task*> TaskService::find_task(const std::string& id) {
  auto row = tasks_.find(id);
  if (row == tasks_.end()) return make_error(ENOENT, "container {} does not exist: not found", id);
  return row->second.get();
}

Result<std::shared_ptr<Process>> TaskService::find_process(const std::string& id, const std::string& exec_id) {
  Task* task = TRY(find_task(id));
  return task->find(exec_id);
}

Result<sandbox::Sandbox*> TaskService::ensure_sandbox(const containerd::Any& options, const std::string& spec) {
  if (sandbox_) return sandbox_.get();
  sandbox::SandboxContext context;
  context.config = TRY(config_from_options(options.type_url().empty() ? options_.runtime_options : options));
  context.isolation = isolation_ = TRY(choose_isolation(context.config, options_.isolation, spec));
  context.dir = options_.sandbox_dir;
  context.id = options_.sandbox_id;
  context.debug = options_.debug;
  context.keep = true;
  TRY(host::mkdir_p(context.dir, 0700));
  sandbox_ = TRY(factory_(loop_, context, [] {}));
  poll_events(0);
  return sandbox_.get();
}

// A process in a guest has no pid on the node: what its task has is that of the machine it runs in.
void TaskService::with_host_pid(int pid, std::function<void(uint32_t)> use) {
  if (isolation_ != "microvm") return use(static_cast<uint32_t>(pid));
  sandbox_->Ping({}, {}, [alive = alive_, use = std::move(use)](Result<v1::PingResponse> answer) {
    if (*alive) use(static_cast<uint32_t>(answer.ok() && answer->machine_pid() > 0 ? answer->machine_pid() : getpid()));
  });
}

void TaskService::Create(containerd::CreateTaskRequest request, Reply<containerd::CreateTaskResponse> reply) {
  if (tasks_.contains(request.id())) return reply(make_error(EEXIST, "container {} already exists", request.id()));
  if (!request.checkpoint().empty())
    return reply(make_error(ENOTSUP, "container {}: starting from a checkpoint is not supported", request.id()));
  Result<std::string> spec = host::read_file(request.bundle() + "/config.json");
  if (!spec.ok()) return reply(std::move(spec).error());
  if (auto ready = ensure_sandbox(request.options(), *spec); !ready.ok()) return reply(std::move(ready).error());
  StreamNames names{request.stdin(), request.stdout(), request.stderr(), request.terminal()};
  auto streams = Streams::open(loop_, names, {request.id(), options_.namespace_});
  if (!streams.ok()) return reply(std::move(streams).error());

  auto task = std::make_unique<Task>();
  task->id = request.id();
  task->bundle = request.bundle();
  task->has_rootfs_mounts = request.rootfs_size() > 0;
  task->init = std::make_shared<Process>();
  task->init->container_id = request.id();
  task->init->names = names;
  tasks_[request.id()] = std::move(task);

  std::vector<RootfsMount> mounts;
  for (const containerd::Mount& mount : request.rootfs())
    mounts.push_back({mount.type(), mount.source(), mount.target(), {mount.options().begin(), mount.options().end()}});
  // In a worker: a mount may take its time, and nothing else of the pod should wait for it.
  auto shared_streams = std::make_shared<std::unique_ptr<Streams>>(std::move(streams).value());
  host::run_worker(
      loop_, {},
      [bundle = request.bundle(), mounts]() -> Result<host::WorkerOutput> {
        TRY(mount_rootfs(bundle, mounts));
        return host::WorkerOutput{};
      },
      [this, alive = alive_, request, spec = std::move(spec).value(), shared_streams, reply](Result<host::WorkerOutput> mounted) mutable {
        if (!*alive) return;
        if (!mounted.ok()) {
          tasks_.erase(request.id());
          return reply(std::move(mounted).error());
        }
        Streams* raw = shared_streams->get();
        raw->when_ready([this, request, spec, shared_streams, reply](Result<void> ready) {
          if (!ready.ok()) {
            (void)unmount_rootfs(request.bundle());
            tasks_.erase(request.id());
            return reply(std::move(ready).error());
          }
          create_in_sandbox(request, spec, std::move(*shared_streams), reply);
        });
      });
}

void TaskService::create_in_sandbox(const containerd::CreateTaskRequest& request, std::string spec, std::unique_ptr<Streams> streams,
                                    Reply<containerd::CreateTaskResponse> reply) {
  v1::CreateContainerRequest create;
  create.set_container_id(request.id());
  create.set_bundle(request.bundle());
  set_spec(create, std::move(spec));
  rpc::Descriptors fds;
  *create.mutable_streams() = pass_streams(*streams, fds);
  streams->release();
  Task* task = tasks_.at(request.id()).get();
  task->init->streams = std::move(streams);
  sandbox_->CreateContainer(
      std::move(create), std::move(fds), [this, alive = alive_, request, reply](Result<v1::CreateContainerResponse> created) {
        if (!*alive) return;
        auto row = tasks_.find(request.id());
        if (!created.ok() || row == tasks_.end()) {
          if (request.rootfs_size() > 0) (void)unmount_rootfs(request.bundle());
          if (row != tasks_.end()) tasks_.erase(row);
          return reply(created.ok() ? make_error(ECANCELED, "container {} was deleted while it was created", request.id())
                                    : std::move(created).error());
        }
        with_host_pid(created->pid(), [this, request, init = row->second->init, reply](uint32_t pid) {
          init->pid = pid;
          publish_created(request, pid);
          wait_for(init);
          containerd::CreateTaskResponse response;
          response.set_pid(pid);
          reply(std::move(response));
        });
      });
}

void TaskService::publish_created(const containerd::CreateTaskRequest& request, uint32_t pid) {
  containerd::TaskCreate event;
  event.set_container_id(request.id());
  event.set_bundle(request.bundle());
  *event.mutable_rootfs() = request.rootfs();
  event.mutable_io()->set_stdin(request.stdin());
  event.mutable_io()->set_stdout(request.stdout());
  event.mutable_io()->set_stderr(request.stderr());
  event.mutable_io()->set_terminal(request.terminal());
  event.set_pid(pid);
  publisher_.publish("/tasks/create", "containerd.events.TaskCreate", event);
}

void TaskService::wait_for(std::shared_ptr<Process> process) {
  v1::WaitProcessRequest request;
  request.set_container_id(process->container_id);
  request.set_exec_id(process->exec_id);
  sandbox_->WaitProcess(std::move(request), {}, [this, alive = alive_, process](Result<v1::WaitProcessResponse> ended) {
    if (!*alive) return;
    // A sandbox that cannot say how a process ended has lost it: killed.
    process->exit_status = ended.ok() ? static_cast<uint32_t>(ended->exit_status()) : 128 + SIGKILL;
    process->exited_at_unix_nanos = ended.ok() && ended->exited_at_unix_nanos() ? ended->exited_at_unix_nanos() : now_unix_nanos();
    auto known = [this, alive, process] {
      if (*alive) exit_known(process);
    };
    if (process->streams)
      process->streams->drain(known);
    else
      known();
  });
}

// Events have an order: a start before its exit, and init's exit after those of its execs, which the kernel has killed by then.
void TaskService::exit_known(std::shared_ptr<Process> process) {
  process->exit_known = true;
  if (process->phase == Process::Phase::Starting || process->phase == Process::Phase::Exited) return;
  auto row = tasks_.find(process->container_id);
  if (process->exec_id.empty() && row != tasks_.end() && row->second->has_live_exec()) return;
  announce_exit(process);
}

void TaskService::announce_exit(const std::shared_ptr<Process>& process) {
  process->phase = Process::Phase::Exited;
  containerd::TaskExit event;
  event.set_container_id(process->container_id);
  event.set_id(process->exec_id.empty() ? process->container_id : process->exec_id);
  event.set_pid(process->pid);
  event.set_exit_status(process->exit_status);
  *event.mutable_exited_at() = timestamp(process->exited_at_unix_nanos);
  publisher_.publish("/tasks/exit", "containerd.events.TaskExit", event);
  containerd::WaitResponse response;
  response.set_exit_status(process->exit_status);
  *response.mutable_exited_at() = timestamp(process->exited_at_unix_nanos);
  for (auto& waiter : std::exchange(process->waiters, {})) waiter(response);
  auto row = tasks_.find(process->container_id);
  if (row == tasks_.end() || process->exec_id.empty()) return;
  std::shared_ptr<Process> init = row->second->init;
  if (init->exit_known) exit_known(init);
}

void TaskService::Start(containerd::StartRequest request, Reply<containerd::StartResponse> reply) {
  auto process = find_process(request.id(), request.exec_id());
  if (!process.ok()) return reply(std::move(process).error());
  if ((*process)->phase != Process::Phase::Created)
    return reply(make_error(EBUSY, "process {} of container {} has been started before", request.exec_id(), request.id()));
  (*process)->phase = Process::Phase::Starting;
  if (request.exec_id().empty()) return start_init(*process, std::move(reply));
  start_exec(*process, std::move(reply));
}

void TaskService::start_init(std::shared_ptr<Process> process, Reply<containerd::StartResponse> reply) {
  v1::StartContainerRequest start;
  start.set_container_id(process->container_id);
  sandbox_->StartContainer(std::move(start), {}, [this, alive = alive_, process, reply](Result<v1::StartContainerResponse> started) {
    if (!*alive) return;
    process->phase = started.ok() ? Process::Phase::Running : Process::Phase::Created;
    if (started.ok()) {
      containerd::TaskStart event;
      event.set_container_id(process->container_id);
      event.set_pid(process->pid);
      publisher_.publish("/tasks/start", "containerd.events.TaskStart", event);
      containerd::StartResponse response;
      response.set_pid(process->pid);
      reply(std::move(response));
    } else {
      reply(std::move(started).error());
    }
    if (process->exit_known) exit_known(process);
  });
}

void TaskService::start_exec(std::shared_ptr<Process> process, Reply<containerd::StartResponse> reply) {
  auto fail = [process, reply](Error error) {
    process->phase = Process::Phase::Created;
    process->streams.reset();
    reply(std::move(error));
  };
  auto streams = Streams::open(loop_, process->names, {process->container_id, options_.namespace_});
  if (!streams.ok()) return fail(std::move(streams).error());
  process->streams = std::move(streams).value();
  process->streams->when_ready([this, alive = alive_, process, reply, fail](Result<void> ready) {
    if (!*alive) return;
    if (!ready.ok()) return fail(std::move(ready).error());
    v1::ExecProcessRequest exec;
    exec.set_container_id(process->container_id);
    exec.set_exec_id(process->exec_id);
    exec.set_process(process->spec);
    rpc::Descriptors fds;
    *exec.mutable_streams() = pass_streams(*process->streams, fds);
    process->streams->release();
    sandbox_->ExecProcess(std::move(exec), std::move(fds), [this, alive, process, reply, fail](Result<v1::ExecProcessResponse> executed) {
      if (!*alive) return;
      if (!executed.ok()) return fail(std::move(executed).error());
      // docker takes the end of any process that has the pid of its task for the task's end: never the machine's.
      process->pid = static_cast<uint32_t>(isolation_ == "microvm" ? getpid() : executed->pid());
      process->phase = Process::Phase::Running;
      containerd::TaskExecStarted event;
      event.set_container_id(process->container_id);
      event.set_exec_id(process->exec_id);
      event.set_pid(process->pid);
      publisher_.publish("/tasks/exec-started", "containerd.events.TaskExecStarted", event);
      containerd::StartResponse response;
      response.set_pid(process->pid);
      reply(std::move(response));
      wait_for(process);
    });
  });
}

void TaskService::Exec(containerd::ExecProcessRequest request, Reply<containerd::Empty> reply) {
  auto task = find_task(request.id());
  if (!task.ok()) return reply(std::move(task).error());
  if (request.exec_id().empty()) return reply(make_error(EINVAL, "exec in container {}: an exec id is needed", request.id()));
  if ((*task)->execs.contains(request.exec_id())) return reply(make_error(EEXIST, "exec process {} already exists", request.exec_id()));
  auto process = std::make_shared<Process>();
  process->container_id = request.id();
  process->exec_id = request.exec_id();
  process->names = {request.stdin(), request.stdout(), request.stderr(), request.terminal()};
  process->spec = request.spec().value();
  (*task)->execs[request.exec_id()] = process;
  containerd::TaskExecAdded event;
  event.set_container_id(request.id());
  event.set_exec_id(request.exec_id());
  publisher_.publish("/tasks/exec-added", "containerd.events.TaskExecAdded", event);
  reply(containerd::Empty());
}

void TaskService::Delete(containerd::DeleteRequest request, Reply<containerd::DeleteResponse> reply) {
  auto task = find_task(request.id());
  if (!task.ok()) return reply(std::move(task).error());
  if (request.exec_id().empty()) return delete_init(**task, std::move(reply));
  auto process = (*task)->find(request.exec_id());
  if (!process.ok()) return reply(std::move(process).error());
  std::shared_ptr<Process> exec = *process;
  if (exec->phase == Process::Phase::Running || exec->phase == Process::Phase::Starting)
    return reply(make_error(EBUSY, "exec process {} is running: kill it before it is deleted", request.exec_id()));
  (*task)->execs.erase(request.exec_id());
  containerd::DeleteResponse response;
  response.set_pid(exec->pid);
  response.set_exit_status(exec->exit_status);
  *response.mutable_exited_at() = timestamp(exec->exited_at_unix_nanos);
  if (exec->phase == Process::Phase::Created) return reply(std::move(response));
  v1::DeleteRequest remove;
  remove.set_container_id(request.id());
  remove.set_exec_id(request.exec_id());
  sandbox_->Delete(std::move(remove), {}, [reply, response](Result<v1::DeleteResponse> removed) {
    if (!removed.ok()) log::warning("delete of an exec process: {}", removed.error().message());
    reply(response);
  });
}

void TaskService::delete_init(Task& task, Reply<containerd::DeleteResponse> reply) {
  if (task.init->phase == Process::Phase::Running || task.init->phase == Process::Phase::Starting)
    return reply(make_error(EBUSY, "container {} is running: kill it before it is deleted", task.id));
  v1::DeleteRequest remove;
  remove.set_container_id(task.id);
  remove.set_force(true);
  sandbox_->Delete(std::move(remove), {}, [this, alive = alive_, id = task.id, reply](Result<v1::DeleteResponse> removed) {
    if (!*alive) return;
    auto row = tasks_.find(id);
    if (row == tasks_.end()) return reply(make_error(ENOENT, "container {} does not exist: not found", id));
    if (!removed.ok() && removed.error().code() != ENOENT) return reply(std::move(removed).error());
    std::unique_ptr<Task> task = std::move(row->second);
    tasks_.erase(row);
    if (!task->init->exited_at_unix_nanos) {
      task->init->exit_status = 128 + SIGKILL;
      task->init->exited_at_unix_nanos = now_unix_nanos();
    }
    if (task->has_rootfs_mounts)
      if (Result<void> unmounted = unmount_rootfs(task->bundle); !unmounted.ok()) log::warning("{}", unmounted.error().message());
    containerd::TaskDelete event;
    event.set_container_id(id);
    event.set_pid(task->init->pid);
    event.set_exit_status(task->init->exit_status);
    *event.mutable_exited_at() = timestamp(task->init->exited_at_unix_nanos);
    publisher_.publish("/tasks/delete", "containerd.events.TaskDelete", event);
    containerd::DeleteResponse response;
    response.set_pid(task->init->pid);
    response.set_exit_status(task->init->exit_status);
    *response.mutable_exited_at() = timestamp(task->init->exited_at_unix_nanos);
    reply(std::move(response));
  });
}

}  // namespace caisson::shim
