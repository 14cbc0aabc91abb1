#include "sandbox/local/container.h"

#include <sys/wait.h>

#include "base/log.h"

namespace caisson::sandbox::local {

Exit exit_from_wait_status(int wait_status) {
  const int status = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
  return {status, unix_nanos_now()};
}

v1::WaitProcessResponse Process::outcome() const {
  v1::WaitProcessResponse response;
  response.set_exit_status(exit->status);
  response.set_exited_at_unix_nanos(exit->at_unix_nanos);
  response.set_oom_killed(oom_killed);
  return response;
}

void Process::tell_waiters() {
  for (auto& reply : std::exchange(waiters, {})) reply(outcome());
}

void Process::fail_waiters(const Error& error) {
  for (auto& reply : std::exchange(waiters, {})) reply(error);
}

LocalContainer::LocalContainer(std::shared_ptr<Core> core, std::string id)
    : core_(std::move(core)), id_(std::move(id)), queue_(core_->loop) {}

Result<Process*> LocalContainer::find(const std::string& exec_id) {
  if (exec_id.empty()) return &init_;
  auto found = execs_.find(exec_id);
  if (found == execs_.end()) return make_error(ENOENT, "container {} has no process \"{}\"", id_, exec_id);
  return found->second.get();
}

void LocalContainer::work(host::WorkerOptions options, Work work, WorkDone done) {
  if (!options.keep_fds) options.keep_fds.emplace();
  const int number = next_worker_++;
  workers_[number] = host::run_worker(core_->loop, std::move(options), std::move(work),
                                      [self = shared_from_this(), number, done = std::move(done)](Result<host::WorkerOutput> output) {
                                        self->workers_.erase(number);
                                        done(std::move(output));
                                      });
}

void LocalContainer::emit(v1::Event::Kind kind, const std::string& exec_id, int pid, int exit_status) {
  v1::Event event;
  event.set_kind(kind);
  event.set_container_id(id_);
  event.set_exec_id(exec_id);
  event.set_pid(pid);
  event.set_exit_status(exit_status);
  core_->events.add(std::move(event));
}

void LocalContainer::wait(const std::string& exec_id, Reply<v1::WaitProcessResponse> reply) {
  auto process = find(exec_id);
  if (!process) return reply(std::move(process).error());
  if (!(*process)->alive()) return reply((*process)->outcome());
  (*process)->waiters.push_back(std::move(reply));
}

Result<v1::GetStateResponse> LocalContainer::state(const std::string& exec_id) const {
  v1::GetStateResponse response;
  const Process* process = &init_;
  if (!exec_id.empty()) {
    auto found = execs_.find(exec_id);
    if (found == execs_.end()) return make_error(ENOENT, "container {} has no process \"{}\"", id_, exec_id);
    process = found->second.get();
    response.set_status(process->pid == 0 ? v1::STATUS_CREATED : process->alive() ? v1::STATUS_RUNNING : v1::STATUS_STOPPED);
  } else {
    response.set_status(status_of(state_));
  }
  if (process->exit) {
    response.set_exit_status(process->exit->status);
    response.set_exited_at_unix_nanos(process->exit->at_unix_nanos);
    response.set_oom_killed(process->oom_killed);
  } else {
    response.set_pid(process->pid);
  }
  return response;
}

}  // namespace caisson::sandbox::local
