// Delete: of a container, and of what is remembered of an exec process.
#include <signal.h>

#include "base/log.h"
#include "host/cgroup.h"
#include "host/process.h"
#include "sandbox/local/container.h"

namespace caisson::sandbox::local {
namespace {

constexpr auto kRemoveDeadline = std::chrono::minutes(10);  // poststop hooks may have no timeout of their own
constexpr auto kExitPatience = std::chrono::seconds(10);

v1::DeleteResponse response_of(const std::optional<Exit>& exit) {
  v1::DeleteResponse response;
  response.set_exit_status(exit ? exit->status : 128 + SIGKILL);
  response.set_exited_at_unix_nanos(exit ? exit->at_unix_nanos : unix_nanos_now());
  return response;
}

}  // namespace

void LocalContainer::remove(bool force, Reply<v1::DeleteResponse> reply) {
  // With force nothing is waited for: not hooks, not a program that does not start.
  if (force)
    for (auto& [number, stop] : workers_) stop();
  queue_.exclusive([self = shared_from_this(), force, reply = std::move(reply)](Turn turn) {
    if (self->gone_) return reply(response_of(self->init_.exit));
    const bool unstarted = std::holds_alternative<Created>(self->state_);
    if (!force && !unstarted && !std::holds_alternative<Stopped>(self->state_))
      return reply(make_error(EBUSY, "cannot delete container {} that is not stopped: {}", self->id_, name_of(self->state_)));
    self->destroy(reply, std::move(turn));
  });
}

// Where nothing has to be waited for no worker is needed. (A process that is left is in the cgroup.)
bool LocalContainer::destroyed_at_once() {
  const bool hooks = core_->options.run_runtime_hooks && !spec_.hooks.poststop.empty();
  return init_.exit && !hooks && host::remove_empty_cgroup(record_.cgroup);
}

void LocalContainer::destroy(Reply<v1::DeleteResponse> reply, Turn turn) {
  (void)signal_init(SIGKILL);
  check_oom();
  stop_oom_watch();  // the end of a cgroup is an event too (v1)
  if (destroyed_at_once()) return removed(reply);
  work(
      {.deadline = kRemoveDeadline},
      [this]() -> Result<host::WorkerOutput> {
        TRY(container::destroy(record_, &spec_, core_->options.run_runtime_hooks));
        return host::WorkerOutput();
      },
      [self = shared_from_this(), reply, turn](Result<host::WorkerOutput> output) {
        if (!output) return reply(std::move(output).error());
        if (self->init_.exit) return self->removed(reply);
        // Its processes are dead, but init's status has not come yet.
        auto answered = std::make_shared<bool>(false);
        const auto timer = self->core_->loop.add_timer(kExitPatience, [self, reply, answered, turn] {
          if (!std::exchange(*answered, true))
            reply(make_error(ETIMEDOUT, "process {} of container {} does not end", self->init_.pid, self->id_));
        });
        self->on_init_exit_.push_back([self, reply, answered, timer, turn] {
          self->core_->loop.cancel_timer(timer);
          if (!std::exchange(*answered, true)) self->removed(reply);
        });
      });
}

void LocalContainer::removed(Reply<v1::DeleteResponse> reply) {
  const auto self = shared_from_this();
  for (auto& [exec_id, process] : execs_) process->fail_waiters(make_error(ENOENT, "container {} has been deleted", id_));
  forget();
  emit(v1::Event::DELETED, {}, init_.pid, init_.exit->status);
  reply(response_of(init_.exit));
  queue_.close();
  if (core_->containers.empty() && !core_->options.keep) core_->ended();
}

void LocalContainer::remove_exec(const std::string& exec_id, bool force, Reply<v1::DeleteResponse> reply) {
  auto process = find(exec_id);
  if (!process) return reply(std::move(process).error());
  if (!(*process)->alive()) {
    reply(response_of((*process)->exit));
    execs_.erase(exec_id);
    return;
  }
  if (!force) return reply(make_error(EBUSY, "process \"{}\" of container {} is still running", exec_id, id_));
  if ((*process)->pidfd) (void)host::send_signal((*process)->pidfd.get(), SIGKILL);
  (*process)->waiters.push_back([self = shared_from_this(), exec_id, reply](Result<v1::WaitProcessResponse> outcome) {
    if (!outcome) return reply(std::move(outcome).error());
    self->core_->loop.post([self, exec_id] { self->execs_.erase(exec_id); });
    v1::DeleteResponse response;
    response.set_exit_status(outcome->exit_status());
    response.set_exited_at_unix_nanos(outcome->exited_at_unix_nanos());
    reply(std::move(response));
  });
}

}  // namespace caisson::sandbox::local
