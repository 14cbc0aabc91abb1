#include "agent/agent_sandbox.h"

#include <fcntl.h>

#include "agent/guest_init.h"
#include "agent/name_server.h"
#include "agent/process_streams.h"
#include "base/log.h"
#include "host/worker.h"

namespace caisson::agent {
namespace {

constexpr std::chrono::seconds kWriteBackLimit{20};

}  // namespace

AgentSandbox::AgentSandbox(host::EventLoop& loop, sandbox::Mux& mux, std::unique_ptr<sandbox::Sandbox> containers, Configurer configure,
                           std::function<void()> ended)
    : loop_(loop), mux_(mux), containers_(std::move(containers)), configure_(std::move(configure)), ended_(std::move(ended)) {}

AgentSandbox::~AgentSandbox() { *alive_ = false; }

// What needs no streams goes to the containers as it is.
#define CAISSON_FORWARD(Name)                                                                                 \
  void AgentSandbox::Name(v1::Name##Request request, rpc::Descriptors fds, Reply<v1::Name##Response> reply) { \
    containers_->Name(std::move(request), std::move(fds), std::move(reply));                                  \
  }
CAISSON_FORWARD(StartContainer)
CAISSON_FORWARD(SignalProcess)
CAISSON_FORWARD(PauseContainer)
CAISSON_FORWARD(ResumeContainer)
CAISSON_FORWARD(UpdateContainer)
CAISSON_FORWARD(Stats)
CAISSON_FORWARD(ListProcesses)
CAISSON_FORWARD(GetState)
CAISSON_FORWARD(Events)
CAISSON_FORWARD(Ping)
CAISSON_FORWARD(Debug)
#undef CAISSON_FORWARD

void AgentSandbox::Configure(v1::ConfigureRequest request, rpc::Descriptors, Reply<v1::ConfigureResponse> reply) {
  reply(configure_(request));
}

Result<std::shared_ptr<AgentSandbox::ProcessStreams>> AgentSandbox::open_streams(const ProcessKey& key, v1::Streams& streams,
                                                                                 rpc::Descriptors& fds) {
  if (streams_.contains(key)) return make_error(EEXIST, "process {}/{} exists", key.first, key.second);
  auto opened = std::make_shared<ProcessStreams>(loop_, mux_);
  TRY(opened->open(streams, fds));
  streams_[key] = opened;
  return opened;
}

void AgentSandbox::forget(const ProcessKey& key) {
  auto found = streams_.find(key);
  if (found == streams_.end()) return;
  found->second->close();
  streams_.erase(found);
}

void AgentSandbox::CreateContainer(v1::CreateContainerRequest request, rpc::Descriptors, Reply<v1::CreateContainerResponse> reply) {
  ProcessKey key{request.container_id(), ""};
  if (request.preserved_size() > 0) return reply(make_error(EINVAL, "preserved: descriptors cannot reach a guest"));
  rpc::Descriptors fds;
  auto streams = open_streams(key, *request.mutable_streams(), fds);
  if (!streams.ok()) return reply(std::move(streams).error());
  containers_->CreateContainer(std::move(request), std::move(fds),
                               [this, alive = alive_, key, reply](Result<v1::CreateContainerResponse> response) {
                                 if (!response.ok() && *alive) forget(key);
                                 reply(std::move(response));
                               });
}

void AgentSandbox::ExecProcess(v1::ExecProcessRequest request, rpc::Descriptors, Reply<v1::ExecProcessResponse> reply) {
  ProcessKey key{request.container_id(), request.exec_id()};
  if (request.preserved_size() > 0) return reply(make_error(EINVAL, "preserved: descriptors cannot reach a guest"));
  if (key.second.empty()) return reply(make_error(EINVAL, "exec_id: must not be empty"));
  rpc::Descriptors fds;
  auto streams = open_streams(key, *request.mutable_streams(), fds);
  if (!streams.ok()) return reply(std::move(streams).error());
  containers_->ExecProcess(std::move(request), std::move(fds),
                           [this, alive = alive_, key, reply](Result<v1::ExecProcessResponse> response) {
                             if (!response.ok() && *alive) forget(key);
                             reply(std::move(response));
                           });
}

void AgentSandbox::drain(const ProcessKey& key, std::function<void(uint64_t, uint64_t)> drained) {
  auto found = streams_.find(key);
  if (found == streams_.end()) return drained(0, 0);
  const ProcessStreams& streams = *found->second;
  uint32_t out = streams.terminal != 0 ? streams.terminal : streams.out;
  uint32_t err = streams.err;
  // A channel number of 0 (no such stream) drains at once, with 0 bytes: the control channel is never asked.
  auto then_err = [this, err, drained = std::move(drained), alive = alive_](uint64_t out_bytes) {
    if (err == 0 || !*alive) return drained(out_bytes, 0);
    mux_.drain(err, [drained, out_bytes](uint64_t err_bytes) { drained(out_bytes, err_bytes); });
  };
  if (out == 0) return then_err(0);
  mux_.drain(out, then_err);
}

// Answered when everything that the process had written has been sent to the host.
void AgentSandbox::WaitProcess(v1::WaitProcessRequest request, rpc::Descriptors fds, Reply<v1::WaitProcessResponse> reply) {
  ProcessKey key{request.container_id(), request.exec_id()};
  containers_->WaitProcess(std::move(request), std::move(fds),
                           [this, alive = alive_, key, reply](Result<v1::WaitProcessResponse> response) {
                             if (!response.ok() || !*alive) return reply(std::move(response));
                             drain(key, [reply, response = std::move(response)](uint64_t out_bytes, uint64_t err_bytes) mutable {
                               response->set_stdout_bytes(out_bytes);
                               response->set_stderr_bytes(err_bytes);
                               reply(std::move(response));
                             });
                           });
}

void AgentSandbox::ResizePty(v1::ResizePtyRequest request, rpc::Descriptors, Reply<v1::ResizePtyResponse> reply) {
  auto found = streams_.find({request.container_id(), request.exec_id()});
  if (found == streams_.end()) return reply(make_error(ESRCH, "there is no process {}/{}", request.container_id(), request.exec_id()));
  if (auto resized = found->second->resize(request.rows(), request.columns()); !resized.ok()) return reply(std::move(resized).error());
  reply(v1::ResizePtyResponse());
}

// The host ends the stream's channel, behind what is still under way; nothing is left to do here.
void AgentSandbox::CloseStdin(v1::CloseStdinRequest, rpc::Descriptors, Reply<v1::CloseStdinResponse> reply) {
  reply(v1::CloseStdinResponse());
}

void AgentSandbox::Delete(v1::DeleteRequest request, rpc::Descriptors fds, Reply<v1::DeleteResponse> reply) {
  ProcessKey key{request.container_id(), request.exec_id()};
  containers_->Delete(std::move(request), std::move(fds), [this, alive = alive_, key, reply](Result<v1::DeleteResponse> response) {
    if (!response.ok() || !*alive) return reply(std::move(response));
    if (!key.second.empty()) {
      forget(key);
      return reply(std::move(response));
    }
    for (auto next = streams_.lower_bound(key); next != streams_.end() && next->first.first == key.first; next = streams_.lower_bound(key))
      forget(next->first);
    write_back([reply, response = std::move(response)] { reply(response); });
  });
}

// What a container wrote through a mapping may still be in this kernel only, and the machine may be killed after this answer.
void AgentSandbox::write_back(std::function<void()> done) {
  host::run_worker(
      loop_, {.deadline = kWriteBackLimit, .keep_fds = std::vector<int>{}},
      []() -> Result<host::WorkerOutput> {
        UniqueFd share(open(kShareFolder, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (share.valid() && syncfs(share.get()) != 0) return errno_error("cannot write the container's files back to the host");
        return host::WorkerOutput{};
      },
      [done = std::move(done)](Result<host::WorkerOutput> written) {
        if (!written.ok()) log::error("{}", written.error().message());
        done();
      });
}

void AgentSandbox::Shutdown(v1::ShutdownRequest request, rpc::Descriptors fds, Reply<v1::ShutdownResponse> reply) {
  containers_->Shutdown(std::move(request), std::move(fds), [this, alive = alive_, reply](Result<v1::ShutdownResponse> response) {
    bool done = response.ok();
    reply(std::move(response));
    if (done && *alive) ended_();
  });
}

}  // namespace caisson::agent
