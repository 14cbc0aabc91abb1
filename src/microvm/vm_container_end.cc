// How processes and containers end.
#include "base/log.h"
#include "microvm/vm_container.h"

namespace caisson::microvm {
namespace {

// What is said of a process whose kernel has died under it: as if by SIGKILL.
constexpr int kKilledStatus = 128 + 9;
// After the machine has died, what it had sent is still delivered, but to no reader that does not read.
constexpr std::chrono::seconds kDeadMansOutput{2};
// How long a removal waits for output that its reader has not taken.
constexpr std::chrono::seconds kOutputWait{5};
constexpr std::chrono::seconds kForcedOutputWait{1};

v1::WaitProcessResponse killed() {
  v1::WaitProcessResponse exit;
  exit.set_exit_status(kKilledStatus);
  exit.set_exited_at_unix_nanos(sandbox::local::unix_nanos_now());
  return exit;
}

}  // namespace

void VmContainer::watch_exit(const std::string& exec_id) {
  auto process = find(exec_id);
  if (!process.ok()) return;
  v1::WaitProcessRequest request;
  request.set_container_id(id_);
  request.set_exec_id(exec_id);
  machine_->link().call<v1::WaitProcessResponse>("WaitProcess", request, std::chrono::milliseconds(0),
                                                 [weak = weak(), exec_id, process = *process](Result<v1::WaitProcessResponse> response) {
                                                   auto self = weak.lock();
                                                   if (!self || process->exit) return;
                                                   if (!response.ok() && !self->machine_->alive()) return;  // guest_died() speaks for it
                                                   if (!response.ok())
                                                     log::error("the end of process {}/{} is not known: {}", self->id_, exec_id,
                                                                response.error().message());
                                                   v1::WaitProcessResponse exit = response.ok() ? *response : killed();
                                                   // Nobody may hear of an end before the start.
                                                   auto end = [weak, exec_id, process, exit] {
                                                     if (auto container = weak.lock()) container->ended(exec_id, process, exit);
                                                   };
                                                   if (exec_id.empty() && self->starting_) return self->after_start_.push_back(end);
                                                   end();
                                                 });
}

// It has ended; its output may still be on its way to its readers.
void VmContainer::ended(const std::string& exec_id, std::shared_ptr<VmProcess> process, v1::WaitProcessResponse exit) {
  if (process->exit) return;
  process->exit = std::move(exit);
  if (exec_id.empty()) set_status(v1::STATUS_STOPPED);
  if (!process->streams) return report(exec_id, process);
  auto tell = [weak = weak(), exec_id, process] {
    if (auto self = weak.lock()) self->report(exec_id, process);
  };
  process->streams->when_delivered(process->exit->stdout_bytes(), process->exit->stderr_bytes(), tell);
  if (!machine_->alive()) machine_->loop.add_timer(kDeadMansOutput, tell);
}

void VmContainer::report(const std::string& exec_id, const std::shared_ptr<VmProcess>& process) {
  if (process->told) return;
  process->exit->clear_stdout_bytes();
  process->exit->clear_stderr_bytes();
  emit(v1::Event::EXITED, exec_id, process->pid, process->exit->exit_status());
  process->tell();
}

void VmContainer::guest_died() {
  auto die = [&](const std::string& exec_id, const std::shared_ptr<VmProcess>& process) {
    if (process->exit || process->pid == 0) return;
    v1::WaitProcessResponse exit = killed();
    // All that has come and will not come any more: until the streams end.
    exit.set_stdout_bytes(UINT64_MAX);
    exit.set_stderr_bytes(UINT64_MAX);
    ended(exec_id, process, exit);
  };
  auto execs = execs_;
  for (auto& [exec_id, process] : execs) die(exec_id, process);
  if (status_ != v1::STATUS_CREATING) die("", init_);
}

// Calls done when all output of ended processes has been delivered, or enough time has passed.
void VmContainer::settle(bool force, std::function<void()> done) {
  auto waiting = std::make_shared<size_t>(1);
  auto finished = std::make_shared<bool>(false);
  auto finish = [finished, done = std::move(done)] {
    if (!std::exchange(*finished, true)) done();
  };
  auto one_less = [waiting, finish] {
    if (--*waiting == 0) finish();
  };
  auto await = [&](VmProcess& process) {
    if (!process.exit || process.told) return;
    ++*waiting;
    process.on_told.push_back(one_less);
  };
  await(*init_);
  for (auto& [exec_id, process] : execs_) await(*process);
  if (*waiting > 1) machine_->loop.add_timer(force ? kForcedOutputWait : kOutputWait, finish);
  one_less();
}

void VmContainer::remove(bool force, Reply<v1::DeleteResponse> reply) {
  // A machine that hangs in its creation would be waited for.
  if (force && status_ == v1::STATUS_CREATING && machine_->containers.size() == 1 && machine_->alive()) machine_->abort();
  queue_.exclusive([self = shared_from_this(), force, reply](Turn turn) {
    if (!self->machine_->containers.contains(self->id_)) return reply(v1::DeleteResponse());
    if (!force && (self->status_ == v1::STATUS_RUNNING || self->status_ == v1::STATUS_PAUSED))
      return reply(make_error(EBUSY, "container {} is running; kill it first, or delete it with force", self->id_));
    self->settle(force, [self, reply, turn] {
      if (!self->machine_->alive()) return self->removed_in_guest(reply, turn);
      v1::DeleteRequest request;
      request.set_container_id(self->id_);
      request.set_force(true);
      self->machine_->link().call<v1::DeleteResponse>(
          "Delete", request, self->machine_->link().timeout(), [self, reply, turn](Result<v1::DeleteResponse> response) {
            // Whatever the guest says: its files and channels are taken away from it, and with the last container the machine goes.
            if (!response.ok())
              log::warning("container {} could not be deleted inside the guest: {}", self->id_, response.error().message());
            self->removed_in_guest(reply, turn);
          });
    });
  });
}

void VmContainer::removed_in_guest(Reply<v1::DeleteResponse> reply, Turn turn) {
  auto end_now = [&](const std::string& exec_id, const std::shared_ptr<VmProcess>& process) {
    if (!process->exit) process->exit = killed();
    report(exec_id, process);
  };
  auto execs = execs_;
  for (auto& [exec_id, process] : execs) end_now(exec_id, process);
  end_now("", init_);
  status_ = v1::STATUS_STOPPED;
  free_host_side();
  run_hooks("poststop", spec_.hooks.poststop, "stopped", [self = shared_from_this(), reply, turn](Result<void> hooks) {
    if (!hooks.ok()) log::warning("{}", hooks.error().message());
    v1::DeleteResponse response;
    response.set_exit_status(self->init_->exit->exit_status());
    response.set_exited_at_unix_nanos(self->init_->exit->exited_at_unix_nanos());
    self->emit(v1::Event::DELETED);
    self->forget();
    reply(std::move(response));
    self->machine_->container_removed();
  });
}

void VmContainer::free_host_side() {
  for (auto& [exec_id, process] : execs_) process->streams.reset();
  init_->streams.reset();
  machine_->drop_mirrors(folder_);
  if (auto removed = machine_->share().remove(folder_); !removed.ok()) log::warning("{}", removed.error().message());
}

void VmContainer::forget() {
  auto found = machine_->containers.find(id_);
  if (found != machine_->containers.end() && found->second.get() == this) machine_->containers.erase(found);
}

void VmContainer::remove_exec(const std::string& exec_id, bool force, Reply<v1::DeleteResponse> reply) {
  auto found = find(exec_id);
  if (!found.ok()) return reply(std::move(found).error());
  auto process = *found;
  if (!process->exit && !force)
    return reply(make_error(EBUSY, "process {} of container {} is running; kill it first, or delete it with force", exec_id, id_));
  auto finish = [self = shared_from_this(), exec_id, process, reply] {
    if (!process->exit) process->exit = killed();
    self->report(exec_id, process);
    process->streams.reset();
    self->execs_.erase(exec_id);
    v1::DeleteResponse response;
    response.set_exit_status(process->exit->exit_status());
    response.set_exited_at_unix_nanos(process->exit->exited_at_unix_nanos());
    reply(std::move(response));
  };
  if (!machine_->alive()) return finish();
  v1::DeleteRequest request;
  request.set_container_id(id_);
  request.set_exec_id(exec_id);
  request.set_force(force);
  machine_->link().call<v1::DeleteResponse>("Delete", request, machine_->link().timeout(),
                                            [finish, force, reply](Result<v1::DeleteResponse> response) {
                                              if (!response.ok() && !force) return reply(std::move(response).error());
                                              finish();
                                            });
}

}  // namespace caisson::microvm
