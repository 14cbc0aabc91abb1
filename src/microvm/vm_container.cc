#include "microvm/vm_container.h"

#include <algorithm>
#include <csignal>

#include "base/log.h"
#include "container/hooks.h"
#include "host/worker.h"
#include "microvm/guest_spec.h"
#include "oci/support.h"

namespace caisson::microvm {
namespace {

// SIGKILL is answered within this, else the guest has to answer a Ping within that.
constexpr std::chrono::milliseconds kKillPatience{1500};
constexpr std::chrono::milliseconds kSignOfLife{3000};

const char* name_of(v1::Status status) {
  switch (status) {
    case v1::STATUS_CREATING:
      return "creating";
    case v1::STATUS_CREATED:
      return "created";
    case v1::STATUS_RUNNING:
      return "running";
    case v1::STATUS_PAUSED:
      return "paused";
    case v1::STATUS_STOPPED:
      return "stopped";
    default:
      return "unknown";
  }
}

// The steps that a container takes (runtime-spec runtime.md, "Lifecycle"). Anything may end.
bool is_legal(v1::Status from, v1::Status to) {
  switch (to) {
    case v1::STATUS_CREATED:
      return from == v1::STATUS_CREATING;
    case v1::STATUS_RUNNING:
      return from == v1::STATUS_CREATED || from == v1::STATUS_PAUSED;
    case v1::STATUS_PAUSED:
      return from == v1::STATUS_RUNNING;
    case v1::STATUS_STOPPED:
      return true;
    default:
      return false;
  }
}

}  // namespace

void VmProcess::tell() {
  told = true;
  for (auto& reply : std::exchange(waiters, {})) reply(*exit);
  for (auto& task : std::exchange(on_told, {})) task();
}

VmContainer::VmContainer(std::shared_ptr<Machine> machine, std::string id)
    : machine_(std::move(machine)), id_(std::move(id)), init_(std::make_shared<VmProcess>()), queue_(machine_->loop) {}

Result<std::shared_ptr<VmProcess>> VmContainer::find(const std::string& exec_id) const {
  if (exec_id.empty()) return init_;
  auto found = execs_.find(exec_id);
  if (found == execs_.end()) return make_error(ENOENT, "container {} has no process {}", id_, exec_id);
  return found->second;
}

Result<void> VmContainer::expect(std::initializer_list<v1::Status> allowed, std::string_view operation) const {
  if (std::find(allowed.begin(), allowed.end(), status_) != allowed.end()) return {};
  return make_error(EINVAL, "cannot {} container {}: it is {}", operation, id_, name_of(status_));
}

void VmContainer::set_status(v1::Status status) {
  if (is_legal(status_, status)) status_ = status;
}

void VmContainer::emit(v1::Event::Kind kind, const std::string& exec_id, int pid, int exit_status) {
  v1::Event event;
  event.set_container_id(id_);
  event.set_exec_id(exec_id);
  event.set_kind(kind);
  event.set_pid(pid);
  event.set_exit_status(exit_status);
  machine_->events.add(event);
}

// Hooks run on the host, in a worker. Their pid is that of `state`: the holder's, or, without one (the shim), the VMM's: the container's
// own means nothing here, and hooks that work on /proc/PID/ns/net must find the sandbox's network namespace (find_late_interfaces() looks
// there), never the node's. 0 where the container has ended.
void VmContainer::run_hooks(const std::string& kind, std::vector<oci::Hook> hooks, std::string_view status,
                            std::function<void(Result<void>)> done) {
  if (hooks.empty()) return done({});
  oci::State state{.id = id_,
                   .status = std::string(status),
                   .pid = status == "stopped" ? 0 : told_pid(),
                   .bundle = bundle_,
                   .annotations = spec_.annotations};
  host::run_worker(
      machine_->loop, {.keep_fds = std::vector<int>{}},
      [kind, hooks = std::move(hooks), state = std::move(state)]() -> Result<host::WorkerOutput> {
        TRY(container::run_hooks(kind, hooks, state));
        return host::WorkerOutput{};
      },
      [done = std::move(done)](Result<host::WorkerOutput> output) {
        if (!output.ok()) return done(std::move(output).error());
        done({});
      });
}

void VmContainer::start(Reply<v1::StartContainerResponse> reply) {
  queue_.exclusive([weak = weak(), reply](Turn turn) {
    auto self = weak.lock();
    if (!self) return reply(Error(ENOENT, "the container has been deleted"));
    if (auto right = self->expect({v1::STATUS_CREATED}, "start"); !right.ok()) return reply(std::move(right).error());
    if (self->machine_->role_of(self->spec_) == oci::PodRole::Container) return self->start_in_guest(reply, turn);
    self->machine_->find_late_interfaces(self->told_pid(), [self, reply, turn](Result<void> found) {
      if (!found.ok()) return reply(std::move(found).error());
      self->machine_->serve_names(self->resolv_conf(), self->told_pid(), [self, reply, turn] { self->start_in_guest(reply, turn); });
    });
  });
}

std::string VmContainer::resolv_conf() const {
  for (const oci::Mount& mount : spec_.mounts)
    if (mount.destination == "/etc/resolv.conf" && !mount.source.empty())
      return mount.source.starts_with('/') ? mount.source : bundle_ + "/" + mount.source;
  return "";
}

void VmContainer::start_in_guest(Reply<v1::StartContainerResponse> reply, Turn turn) {
  follow_terminal_sizes();
  starting_ = true;
  v1::StartContainerRequest request;
  request.set_container_id(id_);
  machine_->link().call<v1::StartContainerResponse>("StartContainer", request, machine_->link().timeout(),
                                                    [self = shared_from_this(), reply, turn](Result<v1::StartContainerResponse> response) {
                                                      self->starting_ = false;
                                                      if (response.ok()) {
                                                        self->set_status(v1::STATUS_RUNNING);
                                                        self->emit(v1::Event::STARTED, {}, self->init_->pid);
                                                      }
                                                      for (auto& task : std::exchange(self->after_start_, {})) task();
                                                      if (!response.ok()) return reply(std::move(response).error());
                                                      self->run_hooks("poststart", self->spec_.hooks.poststart, "running",
                                                                      [self, reply, turn, response = *response](Result<void> hooks) {
                                                                        if (hooks.ok()) return reply(response);
                                                                        // A failed poststart hook ends the container (runtime-spec 1.3).
                                                                        v1::SignalProcessRequest kill;
                                                                        kill.set_container_id(self->id_);
                                                                        kill.set_signal(SIGKILL);
                                                                        self->signal(kill, [](Result<v1::SignalProcessResponse>) {});
                                                                        reply(std::move(hooks).error());
                                                                      });
                                                    });
}

void VmContainer::signal(const v1::SignalProcessRequest& request, Reply<v1::SignalProcessResponse> reply) {
  auto process = find(request.exec_id());
  if (!process.ok()) return reply(std::move(process).error());
  if ((*process)->exit) return reply(make_error(ESRCH, "the process of container {} has ended", id_));
  if (request.signal() != SIGKILL)
    return machine_->link().call<v1::SignalProcessResponse>("SignalProcess", request, machine_->link().timeout(), std::move(reply));
  // Who kills does not want to wait for a guest that hangs: it is as good as killed when the machine is.
  auto answered = std::make_shared<bool>(false);
  machine_->link().call<v1::SignalProcessResponse>("SignalProcess", request, machine_->link().timeout(),
                                                   [machine = machine_, answered, reply](Result<v1::SignalProcessResponse> response) {
                                                     *answered = true;
                                                     if (!response.ok() && !machine->alive()) return reply(v1::SignalProcessResponse());
                                                     reply(std::move(response));
                                                   });
  machine_->loop.add_timer(kKillPatience, [machine = std::weak_ptr(machine_), answered] {
    if (auto alive = machine.lock(); alive && !*answered && alive->alive()) alive->link().suspect(kSignOfLife);
  });
}

void VmContainer::wait(const std::string& exec_id, Reply<v1::WaitProcessResponse> reply) {
  auto process = find(exec_id);
  if (!process.ok()) return reply(std::move(process).error());
  if ((*process)->told) return reply(*(*process)->exit);
  (*process)->waiters.push_back(std::move(reply));
}

void VmContainer::resize(const v1::ResizePtyRequest& request, Reply<v1::ResizePtyResponse> reply) {
  auto process = find(request.exec_id());
  if (!process.ok()) return reply(std::move(process).error());
  if ((*process)->exit) return reply(make_error(ESRCH, "the process of container {} has ended", id_));
  machine_->link().call<v1::ResizePtyResponse>("ResizePty", request, machine_->link().timeout(), std::move(reply));
}

bool VmContainer::follow_terminal_sizes() {
  bool any = false;
  auto follow = [&](const std::string& exec_id, VmProcess& process) {
    if (process.exit || !process.streams || !process.streams->has_terminal()) return;
    any = true;
    auto size = process.streams->changed_size();
    if (!size || !machine_->alive()) return;
    v1::ResizePtyRequest request;
    request.set_container_id(id_);
    request.set_exec_id(exec_id);
    request.set_rows(size->ws_row);
    request.set_columns(size->ws_col);
    machine_->link().call<v1::ResizePtyResponse>("ResizePty", request, machine_->link().timeout(), [](Result<v1::ResizePtyResponse>) {});
  };
  follow("", *init_);
  for (auto& [exec_id, process] : execs_) follow(exec_id, *process);
  return any;
}

void VmContainer::close_stdin(const std::string& exec_id, Reply<v1::CloseStdinResponse> reply) {
  auto process = find(exec_id);
  if (!process.ok()) return reply(std::move(process).error());
  if ((*process)->streams) (*process)->streams->close_stdin();
  reply(v1::CloseStdinResponse());
}

void VmContainer::pause(Reply<v1::PauseContainerResponse> reply) {
  queue_.exclusive([weak = weak(), reply](Turn turn) {
    auto self = weak.lock();
    if (!self) return reply(Error(ENOENT, "the container has been deleted"));
    if (auto right = self->expect({v1::STATUS_RUNNING}, "pause"); !right.ok()) return reply(std::move(right).error());
    v1::PauseContainerRequest request;
    request.set_container_id(self->id_);
    self->machine_->link().call<v1::PauseContainerResponse>("PauseContainer", request, self->machine_->link().timeout(),
                                                            [self, reply, turn](Result<v1::PauseContainerResponse> response) {
                                                              if (response.ok() && self->status_ == v1::STATUS_RUNNING) {
                                                                self->set_status(v1::STATUS_PAUSED);
                                                                self->emit(v1::Event::PAUSED);
                                                              }
                                                              reply(std::move(response));
                                                            });
  });
}

void VmContainer::resume(Reply<v1::ResumeContainerResponse> reply) {
  queue_.exclusive([weak = weak(), reply](Turn turn) {
    auto self = weak.lock();
    if (!self) return reply(Error(ENOENT, "the container has been deleted"));
    if (auto right = self->expect({v1::STATUS_PAUSED}, "resume"); !right.ok()) return reply(std::move(right).error());
    v1::ResumeContainerRequest request;
    request.set_container_id(self->id_);
    self->machine_->link().call<v1::ResumeContainerResponse>("ResumeContainer", request, self->machine_->link().timeout(),
                                                             [self, reply, turn](Result<v1::ResumeContainerResponse> response) {
                                                               if (response.ok() && self->status_ == v1::STATUS_PAUSED) {
                                                                 self->set_status(v1::STATUS_RUNNING);
                                                                 self->emit(v1::Event::RESUMED);
                                                               }
                                                               reply(std::move(response));
                                                             });
  });
}

void VmContainer::update(v1::UpdateContainerRequest request, Reply<v1::UpdateContainerResponse> reply) {
  std::vector<std::string> warnings;
  auto translated = translate_resources(request.resources(), warnings);
  if (!translated.ok()) return reply(std::move(translated).error());
  for (const std::string& warning : warnings) log::warning("{}", warning);
  auto resources = oci::parse_resources(*translated);
  if (!resources.ok()) return reply(std::move(resources).error());
  request.set_resources(*translated);
  queue_.exclusive([weak = weak(), request, resources = *resources, reply](Turn turn) {
    auto self = weak.lock();
    if (!self) return reply(Error(ENOENT, "the container has been deleted"));
    if (auto right = self->expect({v1::STATUS_CREATED, v1::STATUS_RUNNING, v1::STATUS_PAUSED}, "update"); !right.ok())
      return reply(std::move(right).error());
    if (!self->spec_.linux_.resources) self->spec_.linux_.resources.emplace();
    oci::Resources& own = *self->spec_.linux_.resources;
    const auto before = own.memory.limit;
    if (resources.memory.limit) own.memory.limit = resources.memory.limit;
    if (resources.cpu.quota) own.cpu.quota = resources.cpu.quota;
    if (resources.cpu.period) own.cpu.period = resources.cpu.period;
    self->machine_->make_room(self->id_, [self, request, before, reply, turn](Result<void> room) {
      if (!room.ok()) log::warning("the virtual machine does not grow: {}", room.error().message());
      const int64_t machine_bytes = static_cast<int64_t>(self->machine_->memory_mib()) << 20;
      auto& limit = self->spec_.linux_.resources->memory.limit;
      if (limit.value_or(0) <= machine_bytes) return self->update_in_guest(request, reply, turn);
      limit = before;
      reply(make_error(EINVAL,
                       "resources: memory.limit: the virtual machine has {} MiB, which cannot be changed while it runs; a larger "
                       "limit needs a new container",
                       self->machine_->memory_mib()));
    });
  });
}

void VmContainer::update_in_guest(const v1::UpdateContainerRequest& request, Reply<v1::UpdateContainerResponse> reply, Turn turn) {
  machine_->link().call<v1::UpdateContainerResponse>(
      "UpdateContainer", request, machine_->link().timeout(),
      [reply, turn](Result<v1::UpdateContainerResponse> response) { reply(std::move(response)); });
}

void VmContainer::stats(Reply<v1::StatsResponse> reply) {
  if (auto right = expect({v1::STATUS_CREATED, v1::STATUS_RUNNING, v1::STATUS_PAUSED}, "give statistics of"); !right.ok())
    return reply(std::move(right).error());
  v1::StatsRequest request;
  request.set_container_id(id_);
  machine_->link().call<v1::StatsResponse>("Stats", request, machine_->link().timeout(), std::move(reply));
}

void VmContainer::list(Reply<v1::ListProcessesResponse> reply) {
  if (status_ == v1::STATUS_STOPPED || status_ == v1::STATUS_CREATING) return reply(v1::ListProcessesResponse());
  v1::ListProcessesRequest request;
  request.set_container_id(id_);
  machine_->link().call<v1::ListProcessesResponse>("ListProcesses", request, machine_->link().timeout(), std::move(reply));
}

Result<v1::GetStateResponse> VmContainer::state(const std::string& exec_id) const {
  auto process = TRY(find(exec_id));
  v1::GetStateResponse response;
  response.set_pid(process->pid);
  response.set_status(exec_id.empty()     ? status_
                      : process->exit     ? v1::STATUS_STOPPED
                      : process->pid == 0 ? v1::STATUS_CREATING
                                          : v1::STATUS_RUNNING);
  if (process->exit) {
    response.set_exit_status(process->exit->exit_status());
    response.set_exited_at_unix_nanos(process->exit->exited_at_unix_nanos());
    response.set_oom_killed(process->exit->oom_killed());
  }
  return response;
}

}  // namespace caisson::microvm
