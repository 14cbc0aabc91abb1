// Machine: what the containers of one micro-VM sandbox share: the virtual machine, its share and cgroup, events.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/cgroup.h"
#include "microvm/attachments.h"
#include "microvm/guest_link.h"
#include "microvm/mirrored_volumes.h"
#include "microvm/name_service.h"
#include "microvm/pod_network.h"
#include "microvm/port_forward.h"
#include "microvm/share.h"
#include "microvm/vm_size.h"
#include "oci/pod.h"
#include "oci/spec.h"
#include "sandbox/local/events.h"
#include "sandbox/process.h"

namespace caisson::microvm {

class VmContainer;

// What makes the machine; replaced in tests.
struct MachineParts {
  std::function<Result<std::unique_ptr<Hypervisor>>(host::EventLoop&, const sandbox::MicrovmConfig&)> make_hypervisor =
      microvm::make_hypervisor;
  std::function<Result<void>(const sandbox::MicrovmConfig&, VmConfig&)> choose_platform = microvm::choose_platform;
};

// Whether hooks run that may set up the sandbox's network namespace (docker's does): prestart and createRuntime.
bool has_network_hooks(const oci::Spec& spec);

class Machine : public std::enable_shared_from_this<Machine> {
 public:
  Machine(host::EventLoop& event_loop, sandbox::SandboxContext sandbox_context, MachineParts parts, std::function<void()> on_end);
  ~Machine();

  host::EventLoop& loop;
  const sandbox::SandboxContext context;
  sandbox::local::EventLog events;
  std::map<std::string, std::shared_ptr<VmContainer>> containers;
  uint32_t next_channel = 1;
  uint32_t next_folder = 1;

  // Boots the machine for its first container, unless that has been done. spec: as the user gave it.
  Result<void> start(const oci::Spec& spec, bool systemd_cgroup);
  // Calls ready() as soon as the guest takes calls: at once, later, or with the reason why it never will.
  void when_ready(std::function<void(Result<void>)> ready);
  bool alive() const { return link_ && !link_->death(); }
  GuestLink& link() { return *link_; }
  Share& share() { return *share_; }
  // The VMM's process; 0 where there is none.
  pid_t vmm_pid() const { return alive() ? std::max(link_->hypervisor().pid(), 0) : 0; }
  uint64_t memory_mib() const { return size_.memory_mib; }
  bool can_grow() const { return can_grow_; }
  // Gives the machine the size that all containers of its pod together ask for, if nobody has told it before. Where it cannot grow there
  // is one warning, which names the container.
  void make_room(const std::string& for_container, std::function<void(Result<void>)> done);
  // Disks for these devices of the node, plugged in where they were not before.
  void give_disks(const std::vector<BlockDevice>& devices, std::function<void(Result<std::vector<GuestDisk>>)> done) {
    attachments_->give_disks(*link_, devices, std::move(done));
  }
  // Interfaces that have come into the pod's network namespace since the machine was started (docker) become the guest's. told: the pid
  // by which engine and hooks know the container; its network namespace counts where the specification names none.
  void find_late_interfaces(pid_t told, std::function<void(Result<void>)> done);
  // Name servers of loopback addresses that a container's resolv.conf names answer inside as well. told: as above.
  void serve_names(const std::string& resolv_conf, pid_t told, std::function<void()> done);
  // Volumes of which the guest has copies. Only while it takes calls.
  MirroredVolumes& mirrors() { return *mirrors_; }
  void drop_mirrors(const std::string& folder) {
    if (mirrors_) mirrors_->remove(folder);
  }
  // Puts a process that stands for a container on the host into the machine's cgroup; a warning where that fails.
  void take_in(pid_t stand_in);
  const sandbox::v1::ConfigureResponse& guest() const { return guest_; }

  // The process of the pod's first container in the guest, whose namespaces the pod's other containers share. EINVAL where there is none.
  Result<int> pod_init() const;
  // A container's place in the pod that this machine is: by its annotations, but that the command line gives a container which belongs to
  // no sandbox it knows a machine of its own.
  oci::PodRole role_of(const oci::Spec& spec) const;
  // A container has been created whose init in the guest is this. podman does not mark a pod's first container: it is the machine's first.
  void consider_pod_init(const oci::Spec& spec, int pid);

  // Something of a container's has a terminal whose size must be watched.
  void watch_terminals();
  // A container has been removed: without any the sandbox ends, if it was made for just one.
  void container_removed();
  // Kills the machine: whoever waits for it, or is in it, learns that at once.
  void abort();
  // Kills the machine, frees what it had on the host, and tells the program that the sandbox has ended.
  void end();

 private:
  Result<void> make_cgroup(const oci::Spec& spec, bool systemd_cgroup, const struct VmSize& size);
  void boot(VmConfig config, sandbox::v1::ConfigureRequest configure, PodNetwork network);
  void warn_of_size(const std::string& container, const VmSize& wanted);
  void plan_attachments(const oci::Spec& spec, VmConfig& config);
  void free_resources();
  void became_ready(const sandbox::v1::ConfigureResponse& guest);
  void died(const Error& error);
  void watch_oom_events(uint64_t after);

  MachineParts parts_;
  std::function<void()> on_end_;
  std::optional<Share> share_;
  std::unique_ptr<GuestLink> link_;
  std::unique_ptr<PortForward> port_forward_;
  std::unique_ptr<NameService> names_;
  std::unique_ptr<MirroredVolumes> mirrors_;
  std::shared_ptr<Attachments> attachments_;
  VmSize size_;
  uint32_t max_vcpus_ = 0;  // that it can be given
  bool can_grow_ = false, size_was_told_ = true, has_warned_of_size_ = false;
  // The pod's network namespace: as the engine has named it, or, empty, that of the pid that engine and hooks are told. Looked at again
  // where something may come late.
  std::string network_path_;
  bool may_come_late_ = false;
  uint32_t hotplug_slots_ = 0;
  std::vector<std::string> interfaces_;  // that the guest has
  int pod_init_ = 0;
  host::CgroupPaths cgroup_;
  host::ScopeHolder scope_;  // until the VMM is in the cgroup, where systemd has made that
  sandbox::v1::ConfigureResponse guest_;
  std::vector<std::function<void(Result<void>)>> waiting_;
  host::EventLoop::TimerId terminal_timer_ = 0;
  bool ended_ = false;
};

// make_vm_sandbox (vm_sandbox.h) with other parts: for tests.
Result<std::unique_ptr<sandbox::Sandbox>> make_vm_sandbox_of(host::EventLoop& loop, const sandbox::SandboxContext& context,
                                                             MachineParts parts, std::function<void()> ended);

}  // namespace caisson::microvm
