// start and exec.
#include <signal.h>
#include <string.h>

#include "base/log.h"
#include "host/process.h"
#include "oci/parse.h"
#include "sandbox/local/container.h"
#include "sandbox/local/exit_watch.h"
#include "sandbox/local/streams.h"

namespace caisson::sandbox::local {
namespace {

constexpr auto kStartDeadline = std::chrono::minutes(10);  // hooks may have no timeout of their own
constexpr auto kExecDeadline = std::chrono::minutes(2);

}  // namespace

void LocalContainer::start(Reply<v1::StartContainerResponse> reply) {
  queue_.exclusive([self = shared_from_this(), reply = std::move(reply)](Turn turn) {
    auto* created = std::get_if<Created>(&self->state_);
    if (created == nullptr || !created->start || self->init_exit_ || self->gone_)
      return reply(make_error(EINVAL, "cannot start container {}: it is {}, not created", self->id_,
                              self->init_exit_ ? "stopped" : name_of(self->state_)));
    auto socket = std::make_shared<UniqueFd>(std::move(created->start));
    self->starting_ = true;
    self->work(
        {.deadline = kStartDeadline, .keep_fds = std::vector<int>{socket->get()}},
        [self, socket]() -> Result<host::WorkerOutput> {
          TRY(container::start(self->record_, self->spec_, std::move(*socket), self->core_->options.run_runtime_hooks));
          return host::WorkerOutput();
        },
        [self, reply, turn](Result<host::WorkerOutput> output) {
          self->starting_ = false;
          auto running = output ? step(self->state_, Running(), self->id_) : Result<void>(std::move(output).error());
          if (running) {
            self->emit(v1::Event::STARTED, {}, self->init_.pid);
            v1::StartContainerResponse response;
            response.set_pid(self->init_.pid);
            reply(std::move(response));
          } else {
            // A failed poststart hook leaves the process running; it is stopped then (runtime-spec runtime.md, "Lifecycle" 9).
            (void)self->signal_init(SIGKILL);
            reply(std::move(running).error());
          }
          self->publish_init_exit();
        });
  });
}

Result<void> LocalContainer::may_exec(bool ignore_paused) const {
  if (init_exit_ || gone_ || std::holds_alternative<Stopped>(state_)) return Error(ESRCH, "cannot exec in a stopped container");
  if (std::holds_alternative<Creating>(state_)) return make_error(EINVAL, "cannot exec in container {}: it is still being created", id_);
  if (std::holds_alternative<Paused>(state_) && !ignore_paused)
    return Error(EINVAL, "cannot exec in a paused container (use --ignore-paused to override)");
  return {};
}

Result<void> LocalContainer::prepare_kernel() {
  auto* created = std::get_if<Created>(&state_);
  if (created == nullptr || !created->start || std::exchange(created->prepared, true)) return {};
  return container::prepare(record_, created->start.get());
}

void LocalContainer::exec(v1::ExecProcessRequest request, rpc::Descriptors fds, Reply<v1::ExecProcessResponse> reply) {
  const std::string exec_id = request.exec_id();
  if (exec_id.empty()) return reply(make_error(EINVAL, "a process to be executed in container {} needs an exec_id", id_));
  if (execs_.contains(exec_id)) return reply(make_error(EEXIST, "container {} has a process \"{}\" already", id_, exec_id));
  auto process = oci::parse_process(request.process());
  if (!process) return reply(std::move(process).error());
  auto stdio = take_stdio(request.streams(), request.preserved(), fds);
  if (!stdio) return reply(std::move(stdio).error());
  auto shared_process = std::make_shared<oci::Process>(std::move(*process));
  auto shared_stdio = std::make_shared<container::Stdio>(std::move(*stdio));
  execs_[exec_id] = std::make_shared<Process>();
  emit(v1::Event::EXEC_ADDED, exec_id);
  queue_.shared([self = shared_from_this(), request = std::move(request), shared_process, shared_stdio,
                 reply = std::move(reply)](Turn turn) { self->run_exec(request, shared_process, shared_stdio, reply, std::move(turn)); });
}

void LocalContainer::run_exec(const v1::ExecProcessRequest& request, std::shared_ptr<oci::Process> process,
                              std::shared_ptr<container::Stdio> stdio, Reply<v1::ExecProcessResponse> reply, Turn turn) {
  const std::string exec_id = request.exec_id();
  auto failed = [self = shared_from_this(), exec_id, reply](Error error) {
    auto node = self->execs_.extract(exec_id);
    if (!node.empty()) node.mapped()->fail_waiters(error);
    reply(std::move(error));
    self->publish_init_exit();
  };
  if (auto may = may_exec(request.ignore_paused()); !may) return failed(std::move(may).error());
  container::ExecOptions options{.cgroup = request.cgroup(), .ignore_paused = request.ignore_paused()};
  if (core_->options.keeper)
    if (auto there = prepare_kernel(); !there) return failed(std::move(there).error());
  if (core_->options.keeper)
    if (auto prepared = core_->options.keeper->prepare_exec(id_, exec_id, *process, *stdio, options); !prepared)
      return failed(std::move(prepared).error());
  // Made before the descriptors are given away.
  host::WorkerOptions worker{.deadline = kExecDeadline, .keep_fds = descriptors_of(*stdio)};
  work(
      worker,
      [this, process, options, stdio]() -> Result<host::WorkerOutput> {
        container::Executed executed = TRY(container::exec(record_, spec_, *process, options, std::move(*stdio)));
        host::WorkerOutput output;
        output.payload = std::to_string(executed.pid);
        output.fds.push_back(std::move(executed.pidfd));
        return output;
      },
      [self = shared_from_this(), exec_id, reply, failed, turn](Result<host::WorkerOutput> output) {
        if (!output) return failed(std::move(output).error());
        auto entry = self->execs_.find(exec_id);
        const pid_t pid = atoi(output->payload.c_str());
        if (entry == self->execs_.end() || pid <= 0 || output->fds.empty())
          return failed(make_error(EIO, "process \"{}\" was lost while it was started", exec_id));
        entry->second->pid = pid;
        entry->second->pidfd = std::move(output->fds[0]);
        auto watched = watch_child_exit(self->core_->loop, pid, [weak = self->weak_from_this(), exec_id](int wait_status) {
          if (auto container = weak.lock()) container->exec_ended(exec_id, wait_status);
        });
        if (!watched) {
          (void)host::send_signal(entry->second->pidfd.get(), SIGKILL);
          return failed(std::move(watched).error());
        }
        self->emit(v1::Event::EXEC_STARTED, exec_id, pid);
        v1::ExecProcessResponse response;
        response.set_pid(pid);
        reply(std::move(response));
        // Init may have ended while this one was made.
        if (self->killing_execs_) (void)host::send_signal(entry->second->pidfd.get(), SIGKILL);
      });
}

}  // namespace caisson::sandbox::local
