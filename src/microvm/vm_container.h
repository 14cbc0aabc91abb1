// VmContainer: one container in a micro-VM, as the host's side has it: its state, its processes' streams and ends. What happens inside is
// the agent's.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "microvm/host_streams.h"
#include "microvm/machine.h"
#include "oci/parse.h"
#include "sandbox/local/operations.h"

namespace caisson::microvm {

using sandbox::Reply;
namespace v1 = sandbox::v1;  // NOLINT

// A process in the guest: a container's init, or an exec.
struct VmProcess {
  int32_t pid = 0;  // in the guest
  std::unique_ptr<HostStreams> streams;
  std::optional<v1::WaitProcessResponse> exit;  // it has ended
  bool told = false;                            // its output has been delivered and everybody knows of its end
  std::vector<Reply<v1::WaitProcessResponse>> waiters;
  std::vector<std::function<void()>> on_told;

  void tell();
};

class VmContainer : public std::enable_shared_from_this<VmContainer> {
 public:
  VmContainer(std::shared_ptr<Machine> machine, std::string id);

  // Prepares and queues; what can be found wrong at once is the returned error, and then reply is not called and nothing is left.
  Result<void> create(v1::CreateContainerRequest request, rpc::Descriptors fds, Reply<v1::CreateContainerResponse> reply);
  void start(Reply<v1::StartContainerResponse> reply);
  void exec(v1::ExecProcessRequest request, rpc::Descriptors fds, Reply<v1::ExecProcessResponse> reply);
  void signal(const v1::SignalProcessRequest& request, Reply<v1::SignalProcessResponse> reply);
  void wait(const std::string& exec_id, Reply<v1::WaitProcessResponse> reply);
  void resize(const v1::ResizePtyRequest& request, Reply<v1::ResizePtyResponse> reply);
  void close_stdin(const std::string& exec_id, Reply<v1::CloseStdinResponse> reply);
  void pause(Reply<v1::PauseContainerResponse> reply);
  void resume(Reply<v1::ResumeContainerResponse> reply);
  void update(v1::UpdateContainerRequest request, Reply<v1::UpdateContainerResponse> reply);
  void stats(Reply<v1::StatsResponse> reply);
  void list(Reply<v1::ListProcessesResponse> reply);
  Result<v1::GetStateResponse> state(const std::string& exec_id) const;
  void remove(bool force, Reply<v1::DeleteResponse> reply);
  void remove_exec(const std::string& exec_id, bool force, Reply<v1::DeleteResponse> reply);

  const oci::Spec& spec() const { return spec_; }

  // The machine has died: so have all processes.
  void guest_died();
  // Tells the guest of host terminals that have changed their size. False: the container has no terminal in use.
  bool follow_terminal_sizes();

 private:
  using Turn = sandbox::local::OperationQueue::Turn;
  struct Creation;

  // vm_container.cc
  Result<std::shared_ptr<VmProcess>> find(const std::string& exec_id) const;
  Result<void> expect(std::initializer_list<v1::Status> allowed, std::string_view operation) const;
  void set_status(v1::Status status);
  void emit(v1::Event::Kind kind, const std::string& exec_id = {}, int pid = 0, int exit_status = 0);
  void run_hooks(const std::string& kind, std::vector<oci::Hook> hooks, std::string_view status, std::function<void(Result<void>)> done);
  std::weak_ptr<VmContainer> weak() { return weak_from_this(); }
  // The pid by which engine and hooks know the container.
  pid_t told_pid() const { return stand_in_ != 0 ? stand_in_ : machine_->vmm_pid(); }

  // The node's file that is the container's /etc/resolv.conf; "" where the specification mounts none.
  std::string resolv_conf() const;
  void start_in_guest(Reply<v1::StartContainerResponse> reply, Turn turn);
  void update_in_guest(const v1::UpdateContainerRequest& request, Reply<v1::UpdateContainerResponse> reply, Turn turn);

  // vm_container_create.cc
  Result<void> expose_files(const Creation& creation);
  void attach_devices(std::shared_ptr<Creation> creation, Turn turn);
  void create_in_guest(std::shared_ptr<Creation> creation, Turn turn);
  void created(std::shared_ptr<Creation> creation, Turn turn);
  void creation_failed(std::shared_ptr<Creation> creation, Error error);
  void exec_in_guest(v1::ExecProcessRequest request, rpc::Descriptors fds, std::optional<oci::ConsoleSize> size,
                     Reply<v1::ExecProcessResponse> reply, Turn turn);

  // vm_container_end.cc
  void watch_exit(const std::string& exec_id);
  void ended(const std::string& exec_id, std::shared_ptr<VmProcess> process, v1::WaitProcessResponse exit);
  void report(const std::string& exec_id, const std::shared_ptr<VmProcess>& process);
  void settle(bool force, std::function<void()> done);
  void removed_in_guest(Reply<v1::DeleteResponse> reply, Turn turn);
  void free_host_side();
  void forget();

  std::shared_ptr<Machine> machine_;
  std::string id_;
  std::string folder_;  // in the share
  std::string bundle_;
  oci::Spec spec_;
  pid_t stand_in_ = 0;  // the process of the host that stands for this container's first; 0: the VMM does
  v1::Status status_ = v1::STATUS_CREATING;
  std::shared_ptr<VmProcess> init_;
  std::map<std::string, std::shared_ptr<VmProcess>> execs_;
  sandbox::local::OperationQueue queue_;
  bool starting_ = false;
  std::vector<std::function<void()>> after_start_;  // ends that must not be told before the start has been
};

}  // namespace caisson::microvm
