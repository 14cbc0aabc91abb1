#include "microvm/machine.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <thread>

#include "base/log.h"
#include "container/container.h"
#include "container/resources.h"
#include "host/cgroup_files.h"
#include "host/worker.h"
#include "microvm/vm_container.h"

namespace caisson::microvm {
namespace {

// The size of a host's pty can be changed by whoever holds its master, and only processes of a session that it controls are told
// (SIGWINCH). The sandbox process can have one controlling terminal at most, so it looks; only while a terminal is in use.
constexpr std::chrono::milliseconds kTerminalInterval{250};

// docker gives a container one interface for each of its networks.
constexpr uint32_t kSlotsForLateInterfaces = 2;

uint32_t node_cpus() { return std::max(1U, std::thread::hardware_concurrency()); }

uint64_t node_memory_mib() {
  struct sysinfo info {};
  return sysinfo(&info) == 0 ? uint64_t{info.totalram} * info.mem_unit >> 20 : 0;
}

// What is in the machine's cgroup when it ends may end by itself within this.
constexpr std::chrono::milliseconds kHoldersPatience{500};

constexpr const char* kCgroupLeftovers = "cgroup";
constexpr const char* kVmLeftovers = "vm";

}  // namespace

bool has_network_hooks(const oci::Spec& spec) { return !spec.hooks.prestart.empty() || !spec.hooks.create_runtime.empty(); }

Machine::Machine(host::EventLoop& event_loop, sandbox::SandboxContext sandbox_context, MachineParts parts, std::function<void()> on_end)
    : loop(event_loop),
      context(std::move(sandbox_context)),
      parts_(std::move(parts)),
      on_end_(std::move(on_end)),
      attachments_(std::make_shared<Attachments>(event_loop)) {}

Machine::~Machine() {
  if (terminal_timer_ != 0) loop.cancel_timer(terminal_timer_);
  containers.clear();
  if (link_) link_->kill();
  free_resources();
}

// The container's own cgroup on the host is that of the VMM: so engines find the sandbox's use where they look for the container's, and the
// node is protected from a VMM that has been taken over.
Result<void> Machine::make_cgroup(const oci::Spec& spec, bool systemd_cgroup, const VmSize& size) {
  host::CgroupPaths paths = TRY(container::plan_cgroup(spec, context.id, systemd_cgroup));
  TRY(sandbox::save_leftovers(context.dir, kCgroupLeftovers, {.cgroups = {paths}}));
  cgroup_ = paths;
  scope_ = TRY(container::make_cgroup(cgroup_, systemd_cgroup));
  return container::apply_resources(cgroup_, vmm_resources(spec, size), false);
}

void Machine::take_in(pid_t stand_in) {
  if (cgroup_.folders.empty()) return;
  if (auto moved = host::attach_to_cgroup(cgroup_, stand_in); !moved.ok())
    log::warning("process {}, which stands for the container, is not in its cgroup: {}", stand_in, moved.error().message());
}

Result<void> Machine::start(const oci::Spec& spec, bool systemd_cgroup) {
  if (link_) {
    if (link_->death()) return *link_->death();
    return {};
  }
  VmSize size = size_vm(spec, context.config.microvm, node_cpus());
  size_ = size;
  VmConfig config;
  config.id = context.id;
  config.dir = context.dir;
  config.vcpus = size.vcpus;
  config.memory_mib = size.memory_mib;
  TRY(parts_.choose_platform(context.config.microvm, config));
  auto hypervisor = TRY(parts_.make_hypervisor(loop, context.config.microvm));
  share_ = TRY(Share::create());
  config.share_namespace = share_->namespace_fd();
  if (auto cgroup = make_cgroup(spec, systemd_cgroup, size); cgroup.ok())
    config.cgroup = cgroup_;
  else
    log::warning("the virtual machine runs without a cgroup of its own: {}", cgroup.error().message());

  plan_attachments(spec, config);

  sandbox::v1::ConfigureRequest configure;
  configure.set_hostname(spec.hostname.empty() ? "caisson" : spec.hostname);
  configure.set_share_type(config.share == ShareType::Virtiofs ? "virtiofs" : "9p");
  configure.set_share_tag(kShareTag);
  if (context.debug) configure.set_log_level("debug");
  std::weak_ptr<Machine> weak = weak_from_this();
  link_ = std::make_unique<GuestLink>(loop, std::move(hypervisor), context.config.microvm,
                                      GuestLink::Events{.ready =
                                                            [weak](const sandbox::v1::ConfigureResponse& guest) {
                                                              if (auto self = weak.lock()) self->became_ready(guest);
                                                            },
                                                        .dead =
                                                            [weak](const Error& error) {
                                                              if (auto self = weak.lock()) self->died(error);
                                                            }});
  mirrors_ = std::make_unique<MirroredVolumes>(loop, *link_);
  if (network_path_.empty()) {
    boot(std::move(config), std::move(configure), {});
    return {};
  }
  take_over_network(loop, network_path_, {},
                    [weak, config = std::move(config), configure = std::move(configure)](Result<PodNetwork> taken) {
                      auto self = weak.lock();
                      if (!self || self->ended_ || !self->link_ || self->link_->death()) return;
                      if (!taken.ok()) return self->link_->fail(std::move(taken).error());
                      self->boot(config, configure, std::move(taken).value());
                    });
  return {};
}

// What may be plugged in later takes ports, and these a moment of each boot: only machines that may need them have any.
void Machine::plan_attachments(const oci::Spec& spec, VmConfig& config) {
  const bool is_pod = role_of(spec) == oci::PodRole::Sandbox;
  attachments_->put_at_start(block_devices_of(spec), config);
  if (is_pod && !is_size_told(spec)) {
    size_was_told_ = false;
    config.max_memory_mib = node_memory_mib();
    config.max_vcpus = most_vcpus(context.config.microvm, node_cpus());
    can_grow_ = microvm::can_grow(config);
    max_vcpus_ = can_add_processors(config) ? config.max_vcpus : 0;
  }
  const oci::Namespace* network = spec.find_namespace("network");
  if (network != nullptr) network_path_ = network->path;
  // docker gives a container its interfaces by the network namespace of the pid that its hook is told (through the command line: the
  // holder's), or of the task's (through the shim: the VMM's).
  may_come_late_ = network != nullptr && (is_pod || context.keep || !network_path_.empty() || has_network_hooks(spec));
  config.hotplug_slots = is_pod                                    ? context.config.microvm.hotplug_slots
                         : network_path_.empty() && may_come_late_ ? kSlotsForLateInterfaces
                                                                   : 0;
}

// The VMM has copies of the taps when start() returns: ours go with `network`, and the interfaces with the VMM.
void Machine::boot(VmConfig config, sandbox::v1::ConfigureRequest configure, PodNetwork network) {
  for (const NetworkDevice& device : network.devices) config.networks.push_back({device.tap.get(), device.mac});
  if (network.description.interfaces_size() > 0) *configure.mutable_network() = network.description;
  for (const auto& interface : network.description.interfaces()) interfaces_.push_back(interface.name());
  if (may_come_late_ && !network_path_.empty() && interfaces_.empty())
    config.hotplug_slots = std::max(config.hotplug_slots, kSlotsForLateInterfaces);
  hotplug_slots_ = has_pci(config) ? config.hotplug_slots : 0;
  if (network.local_connections)
    port_forward_ = std::make_unique<PortForward>(loop, std::move(*network.local_connections), *link_, next_channel);
  link_->start(config, std::move(configure),
               [dir = context.dir](const sandbox::Leftovers& leftovers) { return sandbox::save_leftovers(dir, kVmLeftovers, leftovers); });
  attachments_->started();
}

void Machine::find_late_interfaces(pid_t told, std::function<void(Result<void>)> done) {
  if (!may_come_late_ || !alive()) return done({});
  const std::string path = network_path_.empty() ? fmt::format("/proc/{}/ns/net", told) : network_path_;
  take_over_network(loop, path, {.known = interfaces_, .forwards = false, .may_add = hotplug_slots_ > 0},
                    [self = shared_from_this(), done = std::move(done)](Result<PodNetwork> late) {
                      if (!late.ok() && late.error().code() == ENOTSUP) {
                        log::warning("{}", late.error().message());
                        return done({});
                      }
                      if (!late.ok()) return done(std::move(late).error());
                      if (late->devices.empty()) return done({});
                      for (const auto& interface : late->description.interfaces()) self->interfaces_.push_back(interface.name());
                      self->attachments_->give_networks(*self->link_, std::move(*late), done);
                    });
}

void Machine::serve_names(const std::string& resolv_conf, pid_t told, std::function<void()> done) {
  if (!alive() || !link_->ready()) return done();
  if (!names_) names_ = std::make_unique<NameService>(loop, *link_, next_channel);
  std::vector<NameService::Redirected> interfaces;
  for (size_t i = 0; i < interfaces_.size(); ++i) interfaces.push_back({.interface = interfaces_[i], .tap = tap_name(i)});
  names_->serve(resolv_conf, network_path_.empty() ? fmt::format("/proc/{}/ns/net", told) : network_path_, std::move(interfaces),
                std::move(done));
}

void Machine::make_room(const std::string& for_container, std::function<void(Result<void>)> done) {
  if (size_was_told_ || !alive()) return done({});
  std::vector<const oci::Spec*> specs;
  for (const auto& [id, container] : containers)
    if (role_of(container->spec()) == oci::PodRole::Container) specs.push_back(&container->spec());
  const VmSize wanted = size_for_all(size_, specs, context.config.microvm, node_cpus());
  if (wanted.memory_mib <= size_.memory_mib && wanted.vcpus <= size_.vcpus) return done({});
  if (!can_grow_ || wanted.vcpus > std::max(size_.vcpus, max_vcpus_)) warn_of_size(for_container, wanted);
  if (!can_grow_) return done({});
  size_ = {.vcpus = std::max(size_.vcpus, std::min(wanted.vcpus, max_vcpus_)), .memory_mib = wanted.memory_mib};
  link_->hypervisor().grow(size_.memory_mib, size_.vcpus, std::move(done));
}

void Machine::warn_of_size(const std::string& container, const VmSize& wanted) {
  if (std::exchange(has_warned_of_size_, true)) return;
  log::warning(
      "with container {} the pod asks for {} MiB and {} CPUs, and its virtual machine has {} MiB and {}: it cannot grow so; tell the pod's "
      "size (annotations io.kubernetes.cri.sandbox-memory and sandbox-cpu-quota), or set microvm.machine to \"q35\", which takes memory, "
      "and "
      "processors under KVM or with the stock guest kernel",
      container, wanted.memory_mib, wanted.vcpus, size_.memory_mib, size_.vcpus);
}

void Machine::when_ready(std::function<void(Result<void>)> ready) {
  if (link_->death()) return loop.post([ready = std::move(ready), error = *link_->death()] { ready(error); });
  if (link_->ready()) return ready({});
  waiting_.push_back(std::move(ready));
}

void Machine::became_ready(const sandbox::v1::ConfigureResponse& guest) {
  guest_ = guest;
  scope_ = {};  // the VMM is in it
  watch_oom_events(0);
  for (auto& ready : std::exchange(waiting_, {})) ready({});
}

void Machine::died(const Error& error) {
  for (auto& ready : std::exchange(waiting_, {})) ready(error);
  auto all = containers;
  for (auto& [id, container] : all) container->guest_died();
}

// Everything but out-of-memory kills we see by ourselves.
void Machine::watch_oom_events(uint64_t after) {
  sandbox::v1::EventsRequest request;
  request.set_after_sequence(after);
  link_->call<sandbox::v1::EventsResponse>(
      "Events", request, std::chrono::milliseconds(0), [weak = weak_from_this(), after](Result<sandbox::v1::EventsResponse> response) {
        auto self = weak.lock();
        if (!self || !response.ok() || !self->alive()) return;
        uint64_t last = after;
        for (const sandbox::v1::Event& event : response->events()) {
          last = std::max(last, event.sequence());
          if (event.kind() != sandbox::v1::Event::OOM || !self->containers.contains(event.container_id())) continue;
          sandbox::v1::Event oom;
          oom.set_container_id(event.container_id());
          oom.set_kind(sandbox::v1::Event::OOM);
          self->events.add(oom);
        }
        // An answer without news would make us ask without end.
        if (last > after) return self->watch_oom_events(last);
        self->loop.add_timer(std::chrono::seconds(1), [weak, last] {
          if (auto again = weak.lock(); again && again->alive()) again->watch_oom_events(last);
        });
      });
}

Result<int> Machine::pod_init() const {
  if (pod_init_ > 0) return pod_init_;
  return make_error(EINVAL,
                    "a container of a pod cannot be created before the pod's own (annotation io.kubernetes.cri.container-type: sandbox)");
}

oci::PodRole Machine::role_of(const oci::Spec& spec) const {
  const oci::PodRole role = oci::pod_role(spec);
  return role == oci::PodRole::Container && !context.keep && pod_init_ == 0 ? oci::PodRole::None : role;
}

void Machine::consider_pod_init(const oci::Spec& spec, int pid) {
  if (oci::pod_role(spec) == oci::PodRole::Sandbox || (!context.keep && pod_init_ == 0)) pod_init_ = pid;
}

void Machine::watch_terminals() {
  if (terminal_timer_ != 0) return;
  terminal_timer_ = loop.add_timer(kTerminalInterval, [this] {
    terminal_timer_ = 0;
    bool any = false;
    for (auto& [id, container] : containers) any |= container->follow_terminal_sizes();
    if (any) watch_terminals();
  });
}

void Machine::abort() {
  if (!alive()) return;
  link_->kill();
  loop.post([weak = weak_from_this()] {
    if (auto self = weak.lock()) self->died(*self->link_->death());
  });
}

void Machine::container_removed() {
  if (containers.empty() && !context.keep) end();
}

void Machine::free_resources() {
  scope_ = {};
  if (cgroup_.folders.empty()) return;
  // Holders have been told how their containers have ended, and are on their way to tell it as well.
  (void)host::wait_for_cgroup(kHoldersPatience, "", [&] {
    auto left = host::cgroup_processes(cgroup_);
    return !left.ok() || left->empty();
  });
  if (auto removed = host::remove_cgroup(cgroup_); !removed.ok()) log::warning("{}", removed.error().message());
  cgroup_ = {};
}

void Machine::end() {
  if (std::exchange(ended_, true)) return;
  port_forward_.reset();
  names_.reset();
  mirrors_.reset();
  if (link_) link_->kill();
  free_resources();
  events.close();
  on_end_();
}

}  // namespace caisson::microvm
