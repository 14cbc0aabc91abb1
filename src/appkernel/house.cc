#include "appkernel/house.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>

#include "appkernel/channels.h"
#include "appkernel/translate.h"
#include "base/log.h"
#include "container/credentials.h"
#include "container/keyring.h"
#include "container/process_limits.h"
#include "container/program.h"
#include "container/spawn.h"
#include "host/namespaces.h"
#include "host/process.h"
#include "kernel/control/descriptors.h"
#include "kernel/control/messages.h"
#include "kernel/platform/host_rows.h"
#include "sandbox/leftovers.h"
#include "sandbox/program.h"

namespace caisson::appkernel {
namespace {

constexpr auto kSpawnDeadline = std::chrono::seconds(30);
constexpr int kPatience = 30'000;                         // milliseconds, of a container's creation for its kernel process
constexpr auto kMoveDeadline = std::chrono::seconds(40);  // systemd has 30
constexpr auto kSoonEnded = std::chrono::milliseconds(100);
constexpr auto kEndPatience = std::chrono::seconds(5);

// What the kernel process begins with (kernel/control/descriptors.h), in this order from kChannelFd on.
struct Belongings {
  UniqueFd channel, description, program, log, place;
  std::vector<int> numbers() const { return {channel.get(), description.get(), program.get(), log.get(), place.get()}; }
};

// In the new process: that of the kernel is the first of its PID namespace.
Result<void> run_kernel(const oci::Spec& spec, const std::string& id, Belongings own, UniqueFd go) {
  host::reset_signals();
  prctl(PR_SET_NAME, "caisson-kernel", 0, 0, 0);
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return errno_error("cannot hide the application kernel");
  char byte;
  if (read(go.get(), &byte, 1) != 1) return make_error(ECONNRESET, "whoever makes the application kernel has gone");
  go.reset();
  if (spec.find_namespace("user") != nullptr) TRY(container::become_namespace_root());
  if (setsid() < 0) return errno_error("cannot begin a session");
  TRY(container::join_session_keyring(id));
  if (container::has_fresh(spec, "network")) TRY(host::bring_up_loopback());
  container::Stdio stdio;
  for (UniqueFd* fd : {&own.channel, &own.description, &own.program, &own.log, &own.place}) stdio.preserved.push_back(std::move(*fd));
  const size_t count = stdio.preserved.size();
  UniqueFd none(open("/dev/null", O_RDONLY | O_CLOEXEC));  // what is a channel of theirs elsewhere
  TRY(container::arrange_descriptors(stdio, none));
  TRY(container::become_user(spec.process, container::capability_sets(spec.process)));
  const container::StandIn stand_in{.program = kernel::kProgramFd - kernel::kChannelFd, .process = {}};
  return container::exec_stand_in(spec.process, stand_in, count);
}

// In a worker: a child of the sandbox process.
Result<host::Cloned> spawn(const oci::Spec& spec, const std::string& id, Belongings own) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return errno_error("cannot make a pipe");
  UniqueFd go(ends[0]);
  const UniqueFd tell(ends[1]);
  host::Cloned cloned = TRY(container::spawn_init(spec, "/", -1));
  if (cloned.pid == 0) {
    const auto failed = run_kernel(spec, id, std::move(own), std::move(go));
    log::error("container {}: a process of the application kernel cannot be executed: {}", id, failed.error().message());
    _exit(1);
  }
  TRY(container::write_id_maps(spec, cloned.pid));
  if (spec.process.oom_score_adj) {
    oci::Process limits;
    limits.oom_score_adj = spec.process.oom_score_adj;
    TRY(container::apply_process_limits(cloned.pid, limits));
  }
  if (write(tell.get(), "", 1) != 1) return errno_error("the application kernel has ended");
  return cloned;
}

// The v2 tree of a hybrid host is for finding and killing what is in a container; to be moved in it takes tens of milliseconds.
bool is_only_for_finding(const host::CgroupPaths& cgroup, const std::string& controller) {
  return cgroup.version == host::CgroupVersion::V1 && controller.empty();
}

// Files that a process with one thread writes itself into (host/cgroup.h, attach_to_cgroup).
Result<std::vector<UniqueFd>> entrances_of(const host::CgroupPaths& cgroup) {
  std::vector<UniqueFd> files;
  std::set<std::string> done;
  for (const auto& [controller, folder] : cgroup.folders) {
    if (is_only_for_finding(cgroup, controller) || !done.insert(folder).second) continue;
    const std::string path = folder + (controller.empty() ? "/cgroup.procs" : "/tasks");
    files.emplace_back(open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!files.back()) return errno_error("cannot open {}", path);
  }
  return files;
}

// In the worker that creates the container.
Result<void> move_in(int place, const std::string& id, oci::Spec& spec, const host::CgroupPaths& cgroup) {
  pollfd entry{place, POLLIN, 0};
  if (TEMP_FAILURE_RETRY(poll(&entry, 1, kPatience)) <= 0)
    return make_error(ETIMEDOUT, "container {}: its application kernel does not begin", id);
  const auto told = kernel::receive_message(place);
  if (!told.ok() || told->kind != kernel::MessageKind::Started || told->number <= 0)
    return make_error(ECONNRESET, "container {}: its application kernel could not be made; the log says why", id);
  live_with(spec, told->number);
  const std::vector<UniqueFd> files = TRY(entrances_of(cgroup));
  std::vector<int> fds;
  for (const UniqueFd& file : files) fds.push_back(file.get());
  if (!kernel::send_message(place, kernel::MessageKind::Place, 0, fds).ok())
    return make_error(ECONNRESET, "container {}: its application kernel has ended; the log says why", id);
  return {};
}

}  // namespace

std::string cgroup_of_kernel(const std::string& path) {
  constexpr std::string_view kScope = ".scope";
  constexpr size_t kHalfOfId = 32;
  const bool scope = path.ends_with(kScope);
  std::string own = path.substr(0, path.size() - (scope ? kScope.size() : 0));
  if (own.size() - (own.rfind('/') + 1) > kHalfOfId) own.insert(own.size() - kHalfOfId, "-");
  own += ".kernel";
  if (scope) own += kScope;
  return own;
}

House::House(host::EventLoop& loop, std::string dir, std::string id) : loop_(loop), dir_(std::move(dir)), id_(std::move(id)), log_(loop) {}
House::~House() = default;

Result<std::shared_ptr<House>> House::build(host::EventLoop& loop, const std::string& dir, const oci::Spec& spec,
                                            const kernel::v1::House& description, container::CreateOptions& options) {
  const std::shared_ptr<House> house(new House(loop, dir, options.id));
  auto [ours, theirs] = TRY(channel_to_kernel());
  house->channel_ = std::move(ours);
  auto [creators, kernels] = TRY(channel_pair());
  UniqueFd file = TRY(memory_file("kernel-house", description.SerializeAsString()));
  house->systemd_ = options.systemd_cgroup;
  if (description.strace()) house->log_.allow_trace();
  const auto own = std::make_shared<Belongings>();
  *own = {std::move(theirs), std::move(file), TRY(sandbox::open_own_program()), TRY(house->log_.open(options.id)), std::move(kernels)};
  host::run_worker(
      loop, {.deadline = kSpawnDeadline, .keep_fds = own->numbers()},
      [own, spec = kernel_spec(spec, options.id), id = options.id]() -> Result<host::WorkerOutput> {
        const UniqueFd place = TRY(copy_of(own->place.get()));
        auto cloned = spawn(spec, id, std::move(*own));
        const auto kind = cloned ? kernel::MessageKind::Started : kernel::MessageKind::Failed;
        (void)kernel::send_message(place.get(), kind, cloned ? cloned->pid : cloned.error().code());
        if (!cloned) return std::move(cloned).error();
        host::WorkerOutput output;
        output.payload = std::to_string(cloned->pid);
        output.fds.push_back(std::move(cloned->pidfd));
        return output;
      },
      [house](Result<host::WorkerOutput> output) { house->made(std::move(output)); });
  const auto place = std::make_shared<UniqueFd>(std::move(creators));
  options.kept_fds.push_back(place->get());
  options.before_spawn = [place, id = options.id](oci::Spec& spec, const host::CgroupPaths& cgroup) {
    return move_in(place->get(), id, spec, cgroup);
  };
  return house;
}

void House::made(Result<host::WorkerOutput> output) {
  if (!output) return log::error("container {}: its application kernel cannot be made: {}", id_, output.error().message());
  pid_ = atoi(output->payload.c_str());
  if (!output->fds.empty()) pidfd_ = std::move(output->fds[0]);
  for (auto& call : std::exchange(when_known_, {})) call();
}

void House::when_known(std::function<void()> call) {
  if (pid_ != 0) return call();
  when_known_.push_back(std::move(call));
}

// Beside the container's creation, which takes longer.
Result<void> House::extend(uint64_t brokered) {
  auto [channel, brokers] = TRY(channel_pair());
  kernel::v1::House description;
  description.set_id(id_);
  description.set_bounding(brokered);
  UniqueFd file = TRY(memory_file("kernel-broker", description.SerializeAsString()));
  const auto own = std::make_shared<Belongings>();
  *own = {std::move(brokers), std::move(file), TRY(sandbox::open_own_program()), TRY(log_descriptor()), TRY(copy_of(-1))};
  const auto to_kernel = std::make_shared<UniqueFd>(std::move(channel));
  host::run_worker(
      loop_, {.deadline = kSpawnDeadline, .keep_fds = own->numbers()},
      [own, spec = broker_spec(id_, pid_, resident.user_namespace), id = id_]() -> Result<host::WorkerOutput> {
        (void)TRY(spawn(spec, id, std::move(*own)));
        return host::WorkerOutput();
      },
      [house = shared_from_this(), to_kernel, brokered](Result<host::WorkerOutput> output) {
        if (!output)
          return log::error("container {}: its application kernel gets no network broker: {}", house->id_, output.error().message());
        if (house->channel_)
          (void)kernel::send_message(house->channel_.get(), kernel::MessageKind::Broker, static_cast<int32_t>(brokered),
                                     {to_kernel->get()});
      });
  return {};
}

Result<void> House::join(const std::vector<int>& fds, uint64_t bounding, bool foreign) {
  const uint64_t brokered = brokered_ | kernel::brokered_capabilities(bounding);
  if (std::exchange(brokered_, brokered) != brokered && inhabited_) TRY(extend(brokered));
  foreigners_ = foreigners_ || foreign;
  if (std::exchange(inhabited_, true) && std::exchange(alone_, false))
    if (auto moved = move_out(); !moved)
      log::warning("the application kernel of container {} stays in that one's cgroup, and is paused and limited with it: {}", id_,
                   moved.error().message());
  if (auto sent = kernel::send_message(channel_.get(), kernel::MessageKind::Join, 0, fds); !sent.ok())
    return make_error(sent.error().value, "{}", strerrordesc_np(sent.error().value));
  return {};
}

Result<void> House::move_out() {
  if (pid_ == 0) return make_error(ESRCH, "it is still being made");
  if (first_cgroup_.folders.empty() || !pidfd_) return {};
  // Beside that container's, in every hierarchy. A scope lives while systemd finds a process in its own tree, which is that one on a hybrid
  // host.
  host::CgroupPaths own = first_cgroup_;
  own.path = cgroup_of_kernel(own.path);
  if (!systemd_) std::erase_if(own.folders, [&](const auto& entry) { return is_only_for_finding(own, entry.first); });
  for (auto& [controller, folder] : own.folders) folder = cgroup_of_kernel(folder);
  if (!dir_.empty()) {
    const uint64_t start = TRY(host::process_start_time(pid_));
    TRY(sandbox::save_leftovers(dir_, leftovers_name(), {.processes = {{pid_, start}}, .cgroups = {own}}));
  }
  cgroup_ = own;
  stop_moving_ = host::run_worker(
      loop_, {.deadline = kMoveDeadline, .keep_fds = std::vector<int>{pidfd_.get()}},
      [own, pid = pid_, pidfd = pidfd_.get(), systemd = systemd_]() mutable -> Result<host::WorkerOutput> {
        const host::ScopeHolder holder = TRY(container::make_cgroup(own, systemd));
        // Not another process of that number.
        if (!host::wait_for_end(pidfd, std::chrono::milliseconds(0))) TRY(host::attach_to_cgroup(own, pid));
        return host::WorkerOutput();
      },
      [house = shared_from_this()](Result<host::WorkerOutput> moved) {
        house->stop_moving_ = nullptr;
        if (!moved && moved.error().code() != ECANCELED)
          log::warning("the application kernel of container {} stays in that one's cgroup, and is paused and limited with it: {}",
                       house->id_, moved.error().message());
      });
  return {};
}

void House::leave() {
  channel_.reset();
  if (cgroup_.folders.empty()) return;
  if (stop_moving_) std::exchange(stop_moving_, nullptr)();
  if (foreigners_ && pidfd_ && !host::wait_for_end(pidfd_.get(), std::chrono::milliseconds(0))) {
    // It is no longer for this one's folder to free: who deletes that must not end the others.
    if (!dir_.empty()) unlink(sandbox::leftovers_file(dir_, leftovers_name()).c_str());
    return sweep_later(std::chrono::milliseconds(-1));
  }
  // As a rule it has ended by now. Nobody waits here for one that has not: an engine that has not reaped a container's first process yet
  // holds its PID namespace up, and this loop has others to serve.
  const bool ended = !pidfd_ || host::wait_for_end(pidfd_.get(), kSoonEnded);
  if (!ended || (!systemd_ && !host::remove_empty_cgroup(cgroup_))) return sweep_later(kEndPatience);
  // Of a scope systemd knows.
  if (systemd_)
    if (auto removed = host::remove_cgroup(cgroup_); !removed) return log::warning("{}", removed.error().message());
  if (!dir_.empty()) unlink(sandbox::leftovers_file(dir_, leftovers_name()).c_str());
}

void House::sweep_later(std::chrono::milliseconds patience) {
  const auto cloned = host::clone_process(0);
  if (!cloned) return log::warning("the cgroup {} will be left over: {}", cgroup_.path, cloned.error().message());
  if (cloned->pid != 0) return;
  host::reset_signals();
  prctl(PR_SET_NAME, "caisson-sweep", 0, 0, 0);
  setsid();
  if (chdir("/") != 0 || dup2(pidfd_.get(), 0) != 0) _exit(1);
  log::to_descriptor(-1);
  close_range(1, ~0U, 0);
  pollfd entry{0, POLLIN, 0};
  while (poll(&entry, 1, static_cast<int>(patience.count())) < 0 && errno == EINTR) continue;
  // Kills what is in it.
  _exit(host::remove_cgroup(cgroup_) ? 0 : 1);
}

}  // namespace caisson::appkernel
