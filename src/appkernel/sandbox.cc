#include "appkernel/sandbox.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <map>

#include "appkernel/answer.h"
#include "appkernel/channels.h"
#include "appkernel/house.h"
#include "appkernel/limits.h"
#include "appkernel/neighbours.h"
#include "appkernel/pod.h"
#include "appkernel/translate.h"
#include "base/log.h"
#include "container/credentials.h"
#include "kernel/control/descriptors.h"
#include "kernel/control/kernel_main.h"
#include "kernel/control/messages.h"
#include "kernel/task/kernel.h"
#include "oci/annotations.h"
#include "sandbox/program.h"

namespace caisson::appkernel {
namespace {

// Puts what a process of ours needs before the descriptors that the user wants to have preserved (kernel/control/descriptors.h).
Result<void> add_own_descriptors(container::Stdio& stdio, UniqueFd channel, UniqueFd description) {
  std::vector<UniqueFd> all;
  all.push_back(std::move(channel));
  all.push_back(std::move(description));
  all.push_back(TRY(sandbox::open_own_program()));
  all.push_back(TRY(log_descriptor()));
  for (UniqueFd& fd : stdio.preserved) all.push_back(std::move(fd));
  stdio.preserved = std::move(all);
  return {};
}

// Whether the container's network is another than this process's, which is the node's.
bool has_own_network(const oci::Spec& spec) {
  const oci::Namespace* network = spec.find_namespace("network");
  if (network == nullptr) return false;
  if (network->path.empty()) return true;
  struct stat theirs, ours;
  if (stat(network->path.c_str(), &theirs) != 0 || stat("/proc/self/ns/net", &ours) != 0) return false;
  return theirs.st_dev != ours.st_dev || theirs.st_ino != ours.st_ino;
}

class Keeper : public sandbox::ProcessKeeper {
 public:
  // Other sandbox processes find this one's kernel process in its folder, but a pod's daemon's, which has all of the pod.
  Keeper(host::EventLoop& loop, const sandbox::SandboxContext& context)
      : loop_(loop), dir_(context.dir), debug_(context.debug), neighbours_(loop, context.keep ? std::string() : context.dir) {}

  Result<void> prepare_create(oci::Spec& spec, container::Stdio& stdio, container::CreateOptions& options) override {
    auto stand_in = std::make_shared<container::StandIn>();
    stand_in->program = kernel::kProgramFd - kernel::kChannelFd;
    stand_in->process = spec.process;
    stand_in->early = {"caisson-init " + options.id, kernel::kEarlyCommand};
    kernel::v1::Start start;
    Company company = TRY(company_of(options.id, spec));
    start.set_container_id(options.id);
    start.set_debug(debug_);
    const auto strace = spec.annotations.find(std::string(oci::kStraceAnnotation));
    start.set_strace(std::getenv("CAISSON_STRACE") != nullptr || (strace != spec.annotations.end() && strace->second == "true"));
    Kept kept;
    kept.resident.bounding = container::capability_sets(spec.process).bounding;
    kept.resident.user_namespace = spec.find_namespace("user") != nullptr;
    kept.resident.kernel_of = company.any() ? company.sharing.kernel_of : options.id;
    kept.resident.kernel = company.first.kernel;
    const oci::Spec whole = spec;
    TRY(divide(spec, start, company.sharing));
    if (company.any())
      live_with(spec, company.first.kernel);
    else
      company.house = TRY(build_house(whole, kept.resident, start, options));
    kept.house = company.house;
    if (spec.linux_.resources) kept.limits.apply(*spec.linux_.resources);
    *start.mutable_limits() = kept.limits.described();
    start.mutable_process()->set_preserved(static_cast<uint32_t>(stdio.preserved.size()));
    auto [ours, theirs] = TRY(channel_to_kernel());
    kept.channel = std::move(ours);
    theirs = TRY(join(options.id, company, kept.resident.bounding, std::move(theirs)));
    become_stand_in(spec.process, "caisson-init " + options.id, kernel::kJoinCommand);
    TRY(add_own_descriptors(stdio, std::move(theirs), TRY(memory_file("kernel-start", start.SerializeAsString()))));
    kernels_.insert_or_assign(options.id, std::move(kept));
    options.stand_in = std::move(stand_in);
    return {};
  }

  void created(const container::Record& record) override {
    const auto kept = kernels_.find(record.id);
    if (kept == kernels_.end()) return;
    kept->second.resident.pid = record.pid;
    if (kept->second.resident.kernel_of != record.id || !kept->second.house) return;
    kept->second.house->begins_in(record.cgroup);
    kept->second.house->when_known([this, id = record.id] { offer(id); });
  }

  Result<void> prepare_exec(const std::string& id, const std::string& exec_id, oci::Process& process, container::Stdio& stdio,
                            container::ExecOptions& options) override {
    Kept& kept = *TRY(find(id));
    warn_of_labels(id, process, kept);
    auto stand_in = std::make_shared<container::StandIn>();
    stand_in->program = kernel::kProgramFd - kernel::kChannelFd;
    stand_in->process = process;
    kernel::v1::Process description = TRY(describe_process(process));
    description.set_preserved(static_cast<uint32_t>(stdio.preserved.size()));
    become_stand_in(process, "caisson-exec " + id, kernel::kExecCommand);
    auto [ours, theirs] = TRY(channel_to_kernel());
    TRY(add_own_descriptors(stdio, std::move(theirs), TRY(memory_file("kernel-exec", description.SerializeAsString()))));
    const int number = kept.next_exec++;
    if (auto sent = kernel::send_message(kept.channel.get(), kernel::MessageKind::Exec, number, {ours.get()}); !sent.ok())
      return make_error(sent.error().value, "container {}: its kernel process does not take another process", id);
    kept.execs[number] = exec_id;
    if (kept.execs.size() > kMostExecs) kept.execs.erase(kept.execs.begin());
    options.stand_in = std::move(stand_in);
    return {};
  }

  void prepare_update(const std::string& id, oci::Resources& resources) override {
    if (auto kept = kernels_.find(id); kept != kernels_.end()) kept->second.limits.apply(resources);
  }

  Result<void> tell_limits(const std::string& id) override {
    Kept& kept = *TRY(find(id));
    const UniqueFd file = TRY(memory_file("kernel-limits", kept.limits.described().SerializeAsString()));
    return tell(id, kernel::MessageKind::Limits, 0, {file.get()});
  }

  Result<std::unique_ptr<sandbox::KernelAnswer>> ask(const std::string& id, sandbox::KernelQuestion question) override {
    Kept& kept = *TRY(find(id));
    const auto house = find_house(kept.resident.kernel_of);
    return ask_kernel(kept.channel.get(), question_of(question), kept.execs, kept.limits.described(), !house || !house->alone());
  }

  Result<void> signal_all(const std::string& id, int signal) override { return tell(id, kernel::MessageKind::SignalAll, signal, {}); }
  Result<void> log_calls(const std::string& id, bool on) override {
    const auto kept = kernels_.find(id);
    if (const auto house = on && kept != kernels_.end() ? find_house(kept->second.resident.kernel_of) : nullptr) house->allow_trace();
    return tell(id, kernel::MessageKind::Strace, on ? 1 : 0, {});
  }

  void forget(const std::string& id) override {
    const auto kept = kernels_.find(id);
    if (kept == kernels_.end()) return;
    const std::shared_ptr<House> house = std::move(kept->second.house);
    kernels_.erase(kept);
    if (house && !find_house(house->id())) house->leave();
  }
  std::string kernel_release() const override { return kernel::kKernelRelease; }
  std::string kernel_version() const override { return kernel::kKernelVersion; }

 private:
  // A container, and the channel to its kernel process.
  struct Kept {
    UniqueFd channel;
    Resident resident;
    std::shared_ptr<House> house;  // null: another sandbox process's
    Limits limits;
    std::map<int, std::string> execs;  // number to exec_id, the last ones
    int next_exec = 1;                 // 0 is the container's first process
    bool told_of_labels = false;
  };
  static constexpr size_t kMostExecs = 4096;

  // Whom a container shares a kernel process with.
  struct Company {
    Sharing sharing;
    Resident first;                              // whom the kernel process was made for
    std::shared_ptr<House> house;                // where this one keeps it
    std::optional<Neighbours::Joining> joining;  // where another sandbox process keeps that
    bool any() const { return !sharing.kernel_of.empty(); }
  };

  Result<Company> company_of(const std::string& id, const oci::Spec& spec) {
    Residents residents;
    for (const auto& [other, kept] : kernels_) residents[other] = kept.resident;
    Company company{.sharing = find_sharing(spec, residents)};
    Result<void> found;
    if (company.any()) {
      found = find_first(company);
    } else {
      residents = neighbours_.look();
      company.sharing = find_sharing(spec, residents);
      if (!company.any()) return company;
      found = approach(residents.at(company.sharing.kernel_of), company);
    }
    if (!company.any()) return company;
    std::optional<std::string> why;
    if (!found)
      why = found.error().message();
    else
      why = obstacle(spec, company.first);
    if (!why) return company;
    const Sharing& sharing = company.sharing;
    if (!sharing.pid_of.empty())
      return make_error(ENOTSUP,
                        "linux.namespaces: the pid namespace of container {} cannot be shared with the isolation \"appkernel\": {}",
                        sharing.pid_of, *why);
    log::warning("container {} has an application kernel of its own, not that of container {}: {}", id, sharing.kernel_of, *why);
    return Company();
  }

  // Any container of the same kernel process can tell of it: that which it was made for may have gone.
  Result<void> find_first(Company& company) {
    company.house = find_house(company.sharing.kernel_of);
    if (!company.house || company.house->kernel() == 0) return make_error(ESRCH, "that container has gone");
    company.first = company.house->resident;
    company.first.kernel = company.house->kernel();
    return {};
  }

  std::shared_ptr<House> find_house(const std::string& kernel_of) const {
    for (const auto& [id, kept] : kernels_)
      if (kept.house && kept.house->id() == kernel_of) return kept.house;
    return nullptr;
  }

  Result<std::shared_ptr<House>> build_house(const oci::Spec& spec, const Resident& resident, const kernel::v1::Start& start,
                                             container::CreateOptions& options) {
    kernel::v1::House description;
    description.set_id(options.id);
    description.set_bounding(resident.bounding);
    description.set_own_network(has_own_network(spec));
    description.set_strace(start.strace());
    description.set_debug(debug_);
    const auto patch = spec.annotations.find(std::string(oci::kPatchAnnotation));
    description.set_patch(patch == spec.annotations.end() || patch->second != "false");
    auto house = TRY(House::build(loop_, dir_, spec, description, options));
    house->resident = resident;
    return house;
  }

  // To containers of other sandbox processes.
  void offer(const std::string& id) {
    const auto kept = kernels_.find(id);
    if (kept == kernels_.end()) return;
    Resident& resident = kept->second.resident;
    resident.kernel = kept->second.house->kernel();
    auto offered = neighbours_.offer(
        resident, [house = std::weak_ptr<House>(kept->second.house)](const std::vector<int>& fds, uint64_t bounding) -> Result<void> {
          if (const auto there = house.lock()) return there->join(fds, bounding, true);
          return make_error(ESRCH, "that container has gone");
        });
    if (!offered)
      log::warning("no container of another sandbox process can join the application kernel of container {}: {}", id,
                   offered.error().message());
  }

  Result<void> approach(const Resident& resident, Company& company) {
    company.joining = TRY(neighbours_.approach(company.sharing.kernel_of, resident.pid));
    company.first = company.joining->first;
    return {};
  }

  // Announces a container to the kernel process of another, which gets `control`: the end of a channel for its stand-in.
  Result<UniqueFd> join(const std::string& id, const Company& company, uint64_t bounding, UniqueFd control) {
    auto [theirs, stand_in] = TRY(channel_pair());
    const std::vector<int> fds = {control.get(), theirs.get()};
    const Result<void> done =
        company.joining ? Neighbours::join(*company.joining, fds, bounding) : company.house->join(fds, bounding, false);
    if (!done)
      return make_error(done.error().code(), "container {}: the application kernel of container {} does not take it: {}", id,
                        company.sharing.kernel_of, done.error().message());
    return std::move(stand_in);
  }

  // What the command line has taken out and told of is no longer there; the shim's processes come as they are.
  static void warn_of_labels(const std::string& id, const oci::Process& process, Kept& kept) {
    const char* member = !process.apparmor_profile.empty() ? "apparmorProfile" : !process.selinux_label.empty() ? "selinuxLabel" : nullptr;
    if (member == nullptr || std::exchange(kept.told_of_labels, true)) return;
    log::warning("container {}: process.{} of an exec is ignored with the isolation \"appkernel\": its processes are not the node's", id,
                 member);
  }

  Result<Kept*> find(const std::string& id) {
    const auto kept = kernels_.find(id);
    if (kept == kernels_.end()) return make_error(ESRCH, "container {} has no kernel process", id);
    return &kept->second;
  }

  Result<void> tell(const std::string& id, kernel::MessageKind kind, int number, const std::vector<int>& fds) {
    Kept& kept = *TRY(find(id));
    if (auto sent = kernel::send_message(kept.channel.get(), kind, number, fds); !sent.ok())
      return make_error(sent.error().value, "container {}: its kernel process cannot be told: {}", id, strerrordesc_np(sent.error().value));
    return {};
  }

  static kernel::Question question_of(sandbox::KernelQuestion question) {
    switch (question) {
      case sandbox::KernelQuestion::Count:
        return kernel::Question::Count;
      case sandbox::KernelQuestion::Processes:
        return kernel::Question::Processes;
      case sandbox::KernelQuestion::Tasks:
        return kernel::Question::Tasks;
    }
    return kernel::Question::Count;
  }

  host::EventLoop& loop_;
  std::string dir_;
  bool debug_;
  std::map<std::string, Kept> kernels_;
  Neighbours neighbours_;
};

}  // namespace

Result<std::unique_ptr<sandbox::Sandbox>> make_appkernel_sandbox(host::EventLoop& loop, const sandbox::SandboxContext& context,
                                                                 std::function<void()> ended) {
  sandbox::LocalSandboxOptions options;
  options.dir = context.dir;
  options.isolation = context.isolation;
  options.keep = context.keep;
  options.keeper = std::make_shared<Keeper>(loop, context);
  return sandbox::make_local_sandbox(loop, std::move(options), std::move(ended));
}

std::optional<int> run_hidden_command(int argc, char** argv) {
  if (argc != 2) return std::nullopt;
  const std::string_view command = argv[1];
  if (command == kernel::kKernelCommand) return kernel::kernel_process_main();
  if (command == kernel::kExecCommand) return kernel::kernel_exec_main();
  if (command == kernel::kJoinCommand) return kernel::kernel_join_main();
  if (command == kernel::kEarlyCommand) return kernel::kernel_early_main();
  if (command == kernel::kBrokerCommand) kernel::kernel_broker_main();
  return std::nullopt;
}

}  // namespace caisson::appkernel
