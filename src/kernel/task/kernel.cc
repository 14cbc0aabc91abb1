#include "kernel/task/kernel.h"

#include <signal.h>
#include <string.h>

#include <algorithm>

#include "kernel/klog.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/platform/watcher.h"
#include "kernel/signal/send.h"
#include "kernel/task/clone.h"
#include "kernel/task/exec.h"
#include "kernel/task/exit.h"
#include "kernel/task/stub_limits.h"
#include "kernel/task/thread_waiter.h"
#include "kernel/tty/terminal.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {

Result<std::unique_ptr<Kernel>> Kernel::create(bool zygote) {
  std::unique_ptr<Kernel> kernel(new Kernel);
  signal(SIGPIPE, SIG_IGN);
  if (zygote) kernel->stubs_ = TRY(StubPool::create());  // forks: before the first thread
  kernel->watcher_ = TRY(HostWatcher::create());
  return kernel;
}

Kernel::~Kernel() = default;

StubPool& Kernel::stubs_of(const Task& task) {
  const Container* container = task.group->container;
  return container != nullptr && container->stubs ? *container->stubs : *stubs_;
}

CgroupLimits Container::limits() const {
  std::lock_guard guard(limits_lock_);
  return limits_;
}

void Container::set_limits(const CgroupLimits& limits) {
  std::lock_guard guard(limits_lock_);
  limits_ = limits;
}

void Kernel::thread_began() {
  std::lock_guard guard(threads_lock_);
  ++threads_;
}

void Kernel::thread_ended() {
  std::lock_guard guard(threads_lock_);
  if (--threads_ == 0) threads_gone_.notify_all();
}

void Kernel::shutdown() {
  {
    std::lock_guard guard(tasks);
    for (const std::shared_ptr<PidNamespace>& pids : namespaces_) end_namespace_locked(*pids, nullptr);
  }
  std::unique_lock lock(threads_lock_);
  threads_gone_.wait(lock, [this] { return threads_ == 0; });
}

void Kernel::wait_for_end(ThreadGroup& group) {
  ThreadWaiter end;
  group.exited.add(end);
  {
    std::lock_guard guard(tasks);
    if (group.zombie) end.notify(0);
  }
  end.wait();
  group.exited.remove(end);
}

void Kernel::watch(const std::shared_ptr<StubProcess>& process) {
  std::weak_ptr<StubProcess> weak = process;
  auto id = watcher_->add(process->pidfd(), [this, weak](Events) {
    if (const auto strong = weak.lock()) stub_died(strong);
  });
  if (!id) {
    klog(LogLevel::Error, "cannot watch a stub: %s", strerrordesc_np(id.error().value));
    return;
  }
  process->watched_as(*watcher_, *id);
  watcher_->arm(*id, process->pidfd(), POLLIN);
}

void Kernel::stub_died(const std::shared_ptr<StubProcess>& process) {
  process->mark_dead();
  std::lock_guard guard(tasks);
  for (const std::shared_ptr<PidNamespace>& pids : namespaces_)
    for (auto& [tid, task] : pids->tasks)
      if (task->stub && task->stub->process() == process) {
        task->leaving = true;
        task->stub->wake_dead();
        kick_locked(*task);
      }
}

NamespacesRef Container::namespaces() {
  if (!ipc) ipc = std::make_shared<IpcNamespace>();
  if (!cgroup) cgroup = std::make_shared<CgroupNamespace>(groups);
  return std::make_shared<Namespaces>(Namespaces{uts, ipc, mounts, pids, sandbox_network(), cgroup, sandbox_time()});
}

namespace {

// Everything of a task but its stub.
std::unique_ptr<Task> blank_task(Kernel& kernel, Container& container, StartProcess& process) {
  auto task = std::make_unique<Task>(kernel);
  task->group = std::make_shared<ThreadGroup>();
  ThreadGroup& group = *task->group;
  group.pids = container.pids;
  group.container = &container;
  group.handlers = std::make_shared<SignalHandlers>();
  group.terminal = process.terminal;
  group.start_time = monotonic_now();
  group.leader = task.get();
  group.oom_score_adj = process.oom_score_adj;
  group.nice = process.nice;
  // What is not said is inherited from who runs the container, as natively.
  for (int resource = 0; resource < RLIM_NLIMITS; ++resource)
    if (getrlimit(static_cast<__rlimit_resource>(resource), &group.limits[resource]) != 0)
      group.limits[resource] = {RLIM_INFINITY, RLIM_INFINITY};
  group.limits[RLIMIT_NOFILE] = {1024, 1048576};
  group.limits[RLIMIT_STACK] = {8 << 20, RLIM_INFINITY};
  group.limits[RLIMIT_CORE] = {0, RLIM_INFINITY};
  for (const auto& [resource, limit] : process.limits)
    if (resource >= 0 && resource < RLIM_NLIMITS) group.limits[resource] = limit;
  task->fds = std::make_shared<FdTable>();
  task->fs = std::make_shared<FsContext>(container.root, container.root);
  task->fs->umask = process.umask;
  task->spaces = container.namespaces();
  task->creds = process.creds;
  task->seccomp.set(container.seccomp);
  task->scheduling = process.scheduling;
  task->personality = container.personality;
  return task;
}

// As execvp(3) with the PATH of the process's own environment: what OCI runtimes do.
Result<FileRef> find_program(Task& task, const StartProcess& process, std::string* path) {
  const std::string& name = process.arguments[0];
  if (name.find('/') != name.npos) {
    *path = name;
    return open_program(task, AT_FDCWD, name, 0);
  }
  std::string_view folders = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (const std::string& variable : process.environment)
    if (variable.starts_with("PATH=")) folders = std::string_view(variable).substr(5);
  Errno error(ENOENT);
  while (!folders.empty()) {
    const size_t end = folders.find(':');
    const std::string_view folder = folders.substr(0, end);
    *path = folder.empty() ? name : std::string(folder) + "/" + name;
    Result<FileRef> file = open_program(task, AT_FDCWD, *path, 0);
    if (file) return file;
    if (file.error() == Errno(EACCES)) error = file.error();
    if (end == folders.npos) break;
    folders.remove_prefix(end + 1);
  }
  return error;
}

}  // namespace

Result<Kernel::Started> Kernel::start(Container& container, StartProcess process) {
  if (process.arguments.empty() || !process.creds) return Errno(EINVAL);
  std::unique_ptr<Task> task = blank_task(*this, container, process);
  ThreadGroup& group = *task->group;
  for (size_t i = 0; i < process.files.size(); ++i)
    if (process.files[i]) TRY(task->fds->put(static_cast<int>(i), process.files[i], false, 1 << 20));
  task->fs->set_cwd(TRY(walk(*task, AT_FDCWD, process.cwd, kWalkFolder)));
  ExecRequest request;
  request.file = TRY(find_program(*task, process, &request.path));
  request.arguments = process.arguments;
  request.environment = process.environment;
  LoadedProgram program = TRY(load_program(*task, std::move(request)));
  task->stub = std::move(program.stub);
  task->memory = task->stub->memory();
  task->registers() = program.regs;
  task->name = program.name;
  task->creds = program.creds;
  schedule_new_stub(*task);
  limit_new_stub(*task);
  {
    std::lock_guard guard(tasks);
    if (group.pids->dead) return Errno(ESRCH);
    std::erase_if(namespaces_, [](const auto& pids) { return pids->groups.empty() && pids->dead; });
    if (std::find(namespaces_.begin(), namespaces_.end(), container.pids) == namespaces_.end()) namespaces_.push_back(container.pids);
    group.id = group.pgid = group.sid = task->id = TRY(TaskId::create(group.pids));
    task->tid = group.pid = group.id->number();
    list_group_locked(task->group);
    list_task_locked(*task);
    // As runc does where the container's own group may have no processes of its own any more.
    enter_cgroup_locked(group, container.init && !container.groups->may_host_locked() ? container.init->cgroup : container.groups);
    group.tasks.push_back(task.get());
    count_tasks_locked(group, 1);
    if (process.terminal) process.terminal->attach_locked(group);
    if (group.pids->init.expired()) group.pids->init = task->group;
    if (!container.init) {
      container.init = task->group;
      container.console = process.terminal;
    }
  }
  watch(task->stub->process());
  Started started;
  started.group = task->group;
  started.terminal = process.terminal;
  auto shared = std::make_shared<std::unique_ptr<Task>>(std::move(task));
  started.go = [shared] {
    if (*shared) start_thread(std::move(*shared));
  };
  return started;
}

}  // namespace caisson::kernel
