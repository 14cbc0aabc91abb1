// Creating a container: everything is written down before it is made, made in a worker, and freed if anything fails.
#include <unistd.h>

#include "base/log.h"
#include "host/files.h"
#include "host/process.h"
#include "oci/parse.h"
#include "sandbox/local/container.h"
#include "sandbox/local/exit_watch.h"
#include "sandbox/local/streams.h"

namespace caisson::sandbox::local {
namespace {

// Hooks may have no timeout of their own (runtime-spec config.md, "timeout").
constexpr auto kCreateDeadline = std::chrono::minutes(10);
constexpr auto kCleanUpLimit = std::chrono::seconds(15);

std::string record_file(const std::string& dir, const std::string& id) {
  // The sandbox of one container, as the command line makes them, keeps it where people look for it.
  return dir.ends_with("/" + id) ? dir + "/container.json" : fmt::format("{}/{}.container.json", dir, id);
}

Result<void> write_down(const std::string& dir, const container::Record& record) {
  if (dir.empty()) return {};
  Leftovers leftovers;
  leftovers.processes.push_back({record.pid, record.pid_start_time});
  leftovers.cgroups.push_back(record.cgroup);
  TRY(save_leftovers(dir, record.id, leftovers));
  return host::write_file_atomic(record_file(dir, record.id), container::record_to_json(record));
}

// What the worker does.
Result<host::WorkerOutput> make_container(const oci::Spec& spec, const container::CreateOptions& options, container::Stdio stdio,
                                          const std::string& dir, const host::CgroupPaths& planned, bool sibling) {
  if (sibling && !dir.empty()) {
    // A sibling does not die with the sandbox process: it is among what is to be killed.
    const uint64_t start = TRY(host::process_start_time(getpid()));
    TRY(save_leftovers(dir, options.id, {.processes = {{getpid(), start}}, .cgroups = {planned}}));
  }
  container::Created created = TRY(container::create(spec, options, std::move(stdio)));
  auto written = write_down(dir, created.record);
  if (!written) {
    (void)container::destroy(created.record, nullptr, false);
    return std::move(written).error();
  }
  host::WorkerOutput output;
  output.payload = container::record_to_json(created.record);
  output.fds.push_back(std::move(created.pidfd));
  output.fds.push_back(std::move(created.start));
  auto oom = host::watch_oom(created.record.cgroup);
  if (!oom) log::debug("no out-of-memory events of {}: {}", options.id, oom.error().message());
  if (oom && *oom) output.fds.push_back(std::move(*oom));
  return output;
}

}  // namespace

struct LocalContainer::Creation {
  container::CreateOptions options;
  container::Stdio stdio;
  host::CgroupPaths planned;
  bool sibling = false;
  Reply<v1::CreateContainerResponse> reply;
};

Result<void> LocalContainer::create(const v1::CreateContainerRequest& request, rpc::Descriptors fds,
                                    Reply<v1::CreateContainerResponse> reply) {
  auto creation = std::make_shared<Creation>();
  spec_ = TRY(oci::parse_spec(request.spec()));
  if (!spec_.root.path.starts_with('/')) spec_.root.path = request.bundle() + "/" + spec_.root.path;
  creation->options = {.id = id_,
                       .bundle = request.bundle(),
                       .no_pivot = request.no_pivot(),
                       .no_new_keyring = request.no_new_keyring(),
                       .systemd_cgroup = request.systemd_cgroup(),
                       .run_runtime_hooks = core_->options.run_runtime_hooks,
                       .in_guest = core_->options.in_guest};
  creation->stdio = TRY(take_stdio(request.streams(), request.preserved(), fds));
  if (core_->options.keeper) TRY(core_->options.keeper->prepare_create(spec_, creation->stdio, creation->options));
  creation->sibling = request.sibling() && !core_->options.in_guest && sibling_status_supported();
  creation->planned = TRY(container::plan_cgroup(spec_, id_, request.systemd_cgroup()));
  // A cgroup in use is somebody else's: it must never get among what is freed for this container.
  const std::vector<pid_t> others = TRY(host::cgroup_processes(creation->planned));
  if (!others.empty())
    return make_error(EBUSY, "linux.cgroupsPath: the cgroup {} has processes already, {} among them", creation->planned.path,
                      others.front());
  if (!core_->options.dir.empty()) TRY(save_leftovers(core_->options.dir, id_, {.cgroups = {creation->planned}}));
  creation->reply = std::move(reply);
  queue_.exclusive([self = shared_from_this(), creation](Turn turn) { self->run_creation(creation, std::move(turn)); });
  return {};
}

void LocalContainer::run_creation(std::shared_ptr<Creation> creation, Turn turn) {
  auto stdio = std::make_shared<container::Stdio>(std::move(creation->stdio));
  host::WorkerOptions options{.sibling = creation->sibling, .deadline = kCreateDeadline, .keep_fds = descriptors_of(*stdio)};
  options.keep_fds->insert(options.keep_fds->end(), creation->options.kept_fds.begin(), creation->options.kept_fds.end());
  work(
      options,
      [this, creation, stdio] {
        return make_container(spec_, creation->options, std::move(*stdio), core_->options.dir, creation->planned, creation->sibling);
      },
      [this, creation, turn](Result<host::WorkerOutput> output) { created(creation, std::move(output), turn); });
}

void LocalContainer::created(std::shared_ptr<Creation> creation, Result<host::WorkerOutput> output, Turn turn) {
  if (!output) return creation_failed(std::move(creation), std::move(output).error(), std::move(turn));
  auto adopted = adopt(*creation, std::move(*output));
  if (!adopted) return creation_failed(std::move(creation), std::move(adopted).error(), std::move(turn));
  emit(v1::Event::CREATED, {}, init_.pid);
  v1::CreateContainerResponse response;
  response.set_pid(init_.pid);
  response.set_reparented(creation->sibling);
  creation->reply(std::move(response));
}

// From here on the container is ours to watch.
Result<void> LocalContainer::adopt(const Creation& creation, host::WorkerOutput output) {
  record_ = TRY(container::record_from_json(output.payload));
  if (output.fds.size() < 2)
    return make_error(EIO, "the worker that created container {} handed back {} descriptors", id_, output.fds.size());
  init_.pid = record_.pid;
  init_.pidfd = std::move(output.fds[0]);
  auto ended = [weak = weak_from_this()](int wait_status) {
    if (auto self = weak.lock()) self->init_ended(wait_status);
  };
  TRY(creation.sibling ? watch_sibling_exit(core_->loop, init_.pidfd.get(), init_.pid, ended)
                       : watch_child_exit(core_->loop, init_.pid, ended));
  if (output.fds.size() > 2) watch_oom(std::move(output.fds[2]));
  if (core_->options.keeper) core_->options.keeper->created(record_);
  return step(state_, Created{.start = std::move(output.fds[1])}, id_);
}

// container::create undoes what it has made, but a worker may also have been killed in the middle of it.
void LocalContainer::creation_failed(std::shared_ptr<Creation> creation, Error error, Turn turn) {
  Leftovers leftovers;
  leftovers.cgroups.push_back(creation->planned);
  if (init_.pid != 0) leftovers.processes.push_back({init_.pid, record_.pid_start_time});
  stop_oom_watch();
  work(
      {.deadline = 2 * kCleanUpLimit},
      [leftovers = std::move(leftovers)]() -> Result<host::WorkerOutput> {
        TRY(free_leftovers(leftovers, kCleanUpLimit));
        return host::WorkerOutput();
      },
      [this, creation, error, turn](Result<host::WorkerOutput> freed) {
        if (!freed) log::error("container {} could not be created, and not all of it could be freed: {}", id_, freed.error().message());
        init_.fail_waiters(make_error(ENOENT, "container {} could not be created", id_));
        const auto self = shared_from_this();
        // What could not be freed stays written down, for free_sandbox_folder.
        forget(!freed.ok());
        creation->reply(error);
        queue_.close();
        if (core_->containers.empty() && !core_->options.keep) core_->ended();
      });
}

// Removes what was written down, and the container from its sandbox.
void LocalContainer::forget(bool keep_leftovers) {
  gone_ = true;
  if (core_->options.keeper) core_->options.keeper->forget(id_);
  if (!core_->options.dir.empty() && !keep_leftovers) {
    unlink(record_file(core_->options.dir, id_).c_str());
    unlink(leftovers_file(core_->options.dir, id_).c_str());
  }
  auto found = core_->containers.find(id_);
  if (found != core_->containers.end() && found->second.get() == this) core_->containers.erase(found);
}

}  // namespace caisson::sandbox::local
