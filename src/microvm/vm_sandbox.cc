#include "microvm/vm_sandbox.h"

#include "microvm/machine.h"
#include "microvm/vm_container.h"

namespace caisson::microvm {
namespace {

class VmSandbox : public sandbox::Sandbox {
 public:
  explicit VmSandbox(std::shared_ptr<Machine> machine) : machine_(std::move(machine)) {}
  ~VmSandbox() override {
    // Calls under way hold containers, and these the machine; what is on the host must go now.
    machine_->end();
    machine_->containers.clear();
  }

#define CAISSON_METHOD(Name) void Name(v1::Name##Request request, rpc::Descriptors fds, Reply<v1::Name##Response> reply) override;
  CAISSON_SANDBOX_METHODS(CAISSON_METHOD)
#undef CAISSON_METHOD

 private:
  Result<std::shared_ptr<VmContainer>> find(const std::string& id) const {
    auto found = machine_->containers.find(id);
    if (found == machine_->containers.end()) return make_error(ENOENT, "container {} does not exist in this sandbox", id);
    return found->second;
  }

  // Calls what on the request's container, or replies that there is none.
  template <typename Request, typename Response, typename What>
  void with_container(const Request& request, Reply<Response>& reply, What what) {
    auto container = find(request.container_id());
    if (!container.ok()) return reply(std::move(container).error());
    what(**container);
  }

  std::shared_ptr<Machine> machine_;
};

void VmSandbox::Configure(v1::ConfigureRequest, rpc::Descriptors, Reply<v1::ConfigureResponse> reply) { reply(machine_->guest()); }

void VmSandbox::CreateContainer(v1::CreateContainerRequest request, rpc::Descriptors fds, Reply<v1::CreateContainerResponse> reply) {
  std::string id = request.container_id();
  if (id.empty()) return reply(make_error(EINVAL, "container_id: must not be empty"));
  if (machine_->containers.contains(id)) return reply(make_error(EEXIST, "container {} exists already", id));
  auto container = std::make_shared<VmContainer>(machine_, id);
  machine_->containers[id] = container;
  if (auto begun = container->create(std::move(request), std::move(fds), reply); !begun.ok()) {
    machine_->containers.erase(id);
    reply(std::move(begun).error());
  }
}

void VmSandbox::StartContainer(v1::StartContainerRequest request, rpc::Descriptors, Reply<v1::StartContainerResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) { container.start(reply); });
}

void VmSandbox::ExecProcess(v1::ExecProcessRequest request, rpc::Descriptors fds, Reply<v1::ExecProcessResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) { container.exec(std::move(request), std::move(fds), reply); });
}

void VmSandbox::SignalProcess(v1::SignalProcessRequest request, rpc::Descriptors, Reply<v1::SignalProcessResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) { container.signal(request, reply); });
}

void VmSandbox::WaitProcess(v1::WaitProcessRequest request, rpc::Descriptors, Reply<v1::WaitProcessResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) { container.wait(request.exec_id(), reply); });
}

void VmSandbox::ResizePty(v1::ResizePtyRequest request, rpc::Descriptors, Reply<v1::ResizePtyResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) { container.resize(request, reply); });
}

void VmSandbox::CloseStdin(v1::CloseStdinRequest request, rpc::Descriptors, Reply<v1::CloseStdinResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) { container.close_stdin(request.exec_id(), reply); });
}

void VmSandbox::PauseContainer(v1::PauseContainerRequest request, rpc::Descriptors, Reply<v1::PauseContainerResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) { container.pause(reply); });
}

void VmSandbox::ResumeContainer(v1::ResumeContainerRequest request, rpc::Descriptors, Reply<v1::ResumeContainerResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) { container.resume(reply); });
}

void VmSandbox::UpdateContainer(v1::UpdateContainerRequest request, rpc::Descriptors, Reply<v1::UpdateContainerResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) { container.update(std::move(request), reply); });
}

void VmSandbox::Stats(v1::StatsRequest request, rpc::Descriptors, Reply<v1::StatsResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) { container.stats(reply); });
}

void VmSandbox::ListProcesses(v1::ListProcessesRequest request, rpc::Descriptors, Reply<v1::ListProcessesResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) { container.list(reply); });
}

void VmSandbox::GetState(v1::GetStateRequest request, rpc::Descriptors, Reply<v1::GetStateResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) { reply(container.state(request.exec_id())); });
}

void VmSandbox::Delete(v1::DeleteRequest request, rpc::Descriptors, Reply<v1::DeleteResponse> reply) {
  with_container(request, reply, [&](VmContainer& container) {
    if (request.exec_id().empty())
      container.remove(request.force(), reply);
    else
      container.remove_exec(request.exec_id(), request.force(), reply);
  });
}

void VmSandbox::Events(v1::EventsRequest request, rpc::Descriptors, Reply<v1::EventsResponse> reply) {
  machine_->events.poll(request.after_sequence(), std::move(reply));
}

void VmSandbox::Ping(v1::PingRequest, rpc::Descriptors, Reply<v1::PingResponse> reply) {
  v1::PingResponse response;
  response.set_isolation("microvm");
  response.set_kernel_release(machine_->guest().kernel_release());
  response.set_kernel_version(machine_->guest().kernel_version());
  response.set_sandbox_pid(getpid());
  response.set_machine_pid(machine_->vmm_pid());
  for (const auto& [id, container] : machine_->containers) response.add_container_ids(id);
  reply(std::move(response));
}

// With force each container is removed as Delete does it, its hooks included; a machine that does not answer is bounded by its deadlines.
void VmSandbox::Shutdown(v1::ShutdownRequest request, rpc::Descriptors, Reply<v1::ShutdownResponse> reply) {
  if (!machine_->containers.empty() && !request.force())
    return reply(
        make_error(EBUSY, "the sandbox has {} containers; delete them first, or shut down with force", machine_->containers.size()));
  auto left = std::make_shared<size_t>(machine_->containers.size());
  auto finish = [machine = machine_, reply] {
    reply(v1::ShutdownResponse());
    machine->end();
  };
  if (*left == 0) return finish();
  auto all = machine_->containers;
  for (auto& [id, container] : all)
    container->remove(true, [left, finish](Result<v1::DeleteResponse>) {
      if (--*left == 0) finish();
    });
}

}  // namespace

Result<std::unique_ptr<sandbox::Sandbox>> make_vm_sandbox(host::EventLoop& loop, const sandbox::SandboxContext& context,
                                                          std::function<void()> ended) {
  return make_vm_sandbox_of(loop, context, {}, std::move(ended));
}

Result<std::unique_ptr<sandbox::Sandbox>> make_vm_sandbox_of(host::EventLoop& loop, const sandbox::SandboxContext& context,
                                                             MachineParts parts, std::function<void()> ended) {
  return std::unique_ptr<sandbox::Sandbox>(
      std::make_unique<VmSandbox>(std::make_shared<Machine>(loop, context, std::move(parts), std::move(ended))));
}

}  // namespace caisson::microvm
