// How processes come into the guest: a container's creation, and exec.
#include "base/log.h"
#include "microvm/guest_spec.h"
#include "microvm/vm_container.h"
#include "oci/pod.h"
#include "oci/support.h"

namespace caisson::microvm {

struct VmContainer::Creation {
  v1::CreateContainerRequest request;
  rpc::Descriptors fds;
  Reply<v1::CreateContainerResponse> reply;
  std::vector<Exposure> exposures;
  std::vector<Mirror> mirrors;
};

Result<void> VmContainer::create(v1::CreateContainerRequest request, rpc::Descriptors fds, Reply<v1::CreateContainerResponse> reply) {
  if (request.preserved_size() > 0) return make_error(ENOTSUP, "--preserve-fds: descriptors cannot be passed into a virtual machine");
  if (!request.bundle().starts_with('/')) return make_error(EINVAL, "bundle: must be an absolute path, is \"{}\"", request.bundle());
  bundle_ = request.bundle();
  if (request.stand_in_pid() < 0) return make_error(EINVAL, "stand_in_pid: must not be negative");
  stand_in_ = request.stand_in_pid();
  spec_ = TRY(oci::parse_spec(request.spec()));
  // The front has said so already; a front that has not finds it in the log.
  oci::Adapted adapted = TRY(oci::adapt_config(request.spec(), "microvm"));
  for (const std::string& warning : adapted.warnings) log::debug("{}", warning);
  folder_ = fmt::format("c{}", machine_->next_folder++);
  const oci::PodRole role = machine_->role_of(spec_);
  const int pod_init = role == oci::PodRole::Container ? TRY(machine_->pod_init()) : 0;
  // docker gives a container its interfaces only when it has been created.
  const bool has_first_network =
      role == oci::PodRole::None && ((machine_->context.keep && machine_->containers.size() == 1) || has_network_hooks(spec_));
  GuestSpec guest = TRY(translate_spec(adapted.json, bundle_, id_, folder_, role != oci::PodRole::None, pod_init, has_first_network));
  for (const std::string& warning : guest.warnings) log::warning("{}", warning);
  TRY(machine_->start(spec_, request.systemd_cgroup()));

  auto creation = std::make_shared<Creation>();
  creation->request = std::move(request);
  creation->request.set_spec(guest.json);
  creation->request.set_systemd_cgroup(false);
  creation->request.set_no_pivot(false);
  creation->request.set_sibling(false);
  creation->request.clear_stand_in_pid();
  creation->fds = std::move(fds);
  creation->reply = std::move(reply);
  creation->exposures = std::move(guest.exposures);
  creation->mirrors = std::move(guest.mirrors);
  TRY(expose_files(*creation));
  queue_.exclusive([self = shared_from_this(), creation](Turn turn) {
    self->machine_->when_ready([self, creation, turn](Result<void> ready) {
      if (!ready.ok()) return self->creation_failed(creation, std::move(ready).error());
      self->attach_devices(creation, turn);
    });
  });
  return {};
}

// What the container needs of the machine itself: its size, and disks for block devices.
void VmContainer::attach_devices(std::shared_ptr<Creation> creation, Turn turn) {
  machine_->make_room(id_, [self = shared_from_this(), creation, turn](Result<void> room) {
    // It may still do with less: its limit is what it must not exceed.
    if (!room.ok()) log::warning("the virtual machine does not grow: {}", room.error().message());
    std::vector<BlockDevice> wanted = block_devices_of(self->spec_);
    self->machine_->give_disks(wanted, [self, creation, turn, wanted](Result<std::vector<GuestDisk>> disks) {
      if (!disks.ok()) return self->creation_failed(creation, std::move(disks).error());
      auto numbered = with_guest_numbers(creation->request.spec(), wanted, *disks);
      if (!numbered.ok()) return self->creation_failed(creation, std::move(numbered).error());
      creation->request.set_spec(*numbered);
      self->machine_->mirrors().add(creation->mirrors, [self, creation, turn](Result<void> mirrored) {
        if (!mirrored.ok()) return self->creation_failed(creation, std::move(mirrored).error().within("config.json: mounts"));
        self->create_in_guest(creation, turn);
      });
    });
  });
}

Result<void> VmContainer::expose_files(const Creation& creation) {
  for (const Exposure& exposure : creation.exposures) {
    auto exposed = machine_->share().expose(exposure.host_path, exposure.name,
                                            {.readonly = exposure.readonly, .recursive = exposure.recursive, .follows = exposure.follows});
    if (exposed.ok()) continue;
    (void)machine_->share().remove(folder_);
    return std::move(exposed).error().within("config.json: " + exposure.field);
  }
  return {};
}

void VmContainer::create_in_guest(std::shared_ptr<Creation> creation, Turn turn) {
  auto streams = HostStreams::open(machine_->link().mux(), *creation->request.mutable_streams(), creation->fds, spec_.process.console_size,
                                   machine_->next_channel);
  if (!streams.ok()) return creation_failed(creation, std::move(streams).error());
  creation->fds.clear();
  init_->streams = std::move(*streams);
  machine_->link().call<v1::CreateContainerResponse>(
      "CreateContainer", creation->request, machine_->link().timeout(),
      [self = shared_from_this(), creation, turn](Result<v1::CreateContainerResponse> response) {
        if (!response.ok()) return self->creation_failed(creation, std::move(response).error());
        self->init_->pid = response->pid();
        if (self->stand_in_ != 0) self->machine_->take_in(self->stand_in_);
        std::vector<oci::Hook> create_runtime = self->spec_.hooks.create_runtime;
        self->run_hooks("prestart", self->spec_.hooks.prestart, "creating", [self, creation, turn, create_runtime](Result<void> prestart) {
          if (!prestart.ok()) return self->creation_failed(creation, std::move(prestart).error());
          self->run_hooks("createRuntime", create_runtime, "creating", [self, creation, turn](Result<void> runtime) {
            if (!runtime.ok()) return self->creation_failed(creation, std::move(runtime).error());
            self->created(creation, turn);
          });
        });
      });
}

void VmContainer::created(std::shared_ptr<Creation> creation, Turn) {
  if (!machine_->alive()) return creation_failed(creation, machine_->link().death().value_or(Error(EIO, "the virtual machine has gone")));
  set_status(v1::STATUS_CREATED);
  machine_->consider_pod_init(spec_, init_->pid);
  emit(v1::Event::CREATED, {}, init_->pid);
  if (init_->streams->has_terminal()) machine_->watch_terminals();
  watch_exit("");
  v1::CreateContainerResponse response;
  response.set_pid(init_->pid);
  creation->reply(std::move(response));
}

// Undoes what has been made so far, in the guest and here, and then tells.
void VmContainer::creation_failed(std::shared_ptr<Creation> creation, Error error) {
  auto finish = [self = shared_from_this(), creation, error = std::move(error)] {
    self->status_ = v1::STATUS_STOPPED;
    self->free_host_side();
    self->forget();
    creation->reply(error);
  };
  if (init_->pid == 0 || !machine_->alive()) return finish();
  v1::DeleteRequest request;
  request.set_container_id(id_);
  request.set_force(true);
  machine_->link().call<v1::DeleteResponse>("Delete", request, machine_->link().timeout(),
                                            [finish](Result<v1::DeleteResponse>) { finish(); });
}

void VmContainer::exec(v1::ExecProcessRequest request, rpc::Descriptors fds, Reply<v1::ExecProcessResponse> reply) {
  if (request.preserved_size() > 0)
    return reply(make_error(ENOTSUP, "--preserve-fds: descriptors cannot be passed into a virtual machine"));
  if (request.exec_id().empty()) return reply(make_error(EINVAL, "exec_id: must not be empty"));
  if (execs_.contains(request.exec_id())) return reply(make_error(EEXIST, "container {} has a process {} already", id_, request.exec_id()));
  auto adapted = oci::adapt_process(request.process(), "microvm");
  if (!adapted.ok()) return reply(std::move(adapted).error());
  for (const std::string& warning : adapted->warnings) log::debug("{}", warning);
  auto process = oci::parse_process(adapted->json);
  if (!process.ok()) return reply(std::move(process).error());
  request.set_process(adapted->json);
  auto shared_fds = std::make_shared<rpc::Descriptors>(std::move(fds));
  queue_.shared([self = shared_from_this(), request, shared_fds, size = process->console_size, reply](Turn turn) {
    self->exec_in_guest(request, std::move(*shared_fds), size, reply, turn);
  });
}

void VmContainer::exec_in_guest(v1::ExecProcessRequest request, rpc::Descriptors fds, std::optional<oci::ConsoleSize> size,
                                Reply<v1::ExecProcessResponse> reply, Turn turn) {
  auto right = request.ignore_paused() ? expect({v1::STATUS_CREATED, v1::STATUS_RUNNING, v1::STATUS_PAUSED}, "run a process in")
                                       : expect({v1::STATUS_CREATED, v1::STATUS_RUNNING}, "run a process in");
  if (!right.ok()) return reply(std::move(right).error());
  if (!machine_->alive()) return reply(*machine_->link().death());
  std::string exec_id = request.exec_id();
  auto streams = HostStreams::open(machine_->link().mux(), *request.mutable_streams(), fds, size, machine_->next_channel);
  if (!streams.ok()) return reply(std::move(streams).error());
  auto process = std::make_shared<VmProcess>();
  process->streams = std::move(*streams);
  execs_[exec_id] = process;
  emit(v1::Event::EXEC_ADDED, exec_id);
  machine_->link().call<v1::ExecProcessResponse>(
      "ExecProcess", request, machine_->link().timeout(),
      [self = shared_from_this(), exec_id, process, reply, turn](Result<v1::ExecProcessResponse> response) {
        if (!response.ok()) {
          for (auto& waiter : std::exchange(process->waiters, {})) waiter(response.error());
          self->execs_.erase(exec_id);
          return reply(std::move(response).error());
        }
        process->pid = response->pid();
        self->emit(v1::Event::EXEC_STARTED, exec_id, process->pid);
        if (process->streams->has_terminal()) {
          self->follow_terminal_sizes();
          self->machine_->watch_terminals();
        }
        self->watch_exit(exec_id);
        reply(std::move(response));
      });
}

}  // namespace caisson::microvm
