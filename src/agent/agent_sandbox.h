// AgentSandbox: the Sandbox service as a guest serves it. Streams are channels of the multiplexer here; the containers themselves are run
// by the sandbox that it wraps.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "host/event_loop.h"
#include "sandbox/mux.h"
#include "sandbox/sandbox.h"

namespace caisson::agent {

class NameServer;

using sandbox::Reply;
namespace v1 = sandbox::v1;  // NOLINT

class AgentSandbox : public sandbox::Sandbox {
 public:
  using Configurer = std::function<Result<v1::ConfigureResponse>(const v1::ConfigureRequest&)>;

  // mux must outlive this object. configure: what Configure does (configure_guest, but for tests). ended(): Shutdown has been answered.
  AgentSandbox(host::EventLoop& loop, sandbox::Mux& mux, std::unique_ptr<sandbox::Sandbox> containers, Configurer configure,
               std::function<void()> ended);
  ~AgentSandbox() override;

#define CAISSON_METHOD(Name) void Name(v1::Name##Request request, rpc::Descriptors fds, Reply<v1::Name##Response> reply) override;
  CAISSON_SANDBOX_METHODS(CAISSON_METHOD)
  CAISSON_SANDBOX_OPTIONAL_METHODS(CAISSON_METHOD)
#undef CAISSON_METHOD

 private:
  struct ProcessStreams;
  using ProcessKey = std::pair<std::string, std::string>;  // container, exec

  // Opens the channels that `streams` names, rewriting it so that it names descriptors, which are appended to fds.
  Result<std::shared_ptr<ProcessStreams>> open_streams(const ProcessKey& key, v1::Streams& streams, rpc::Descriptors& fds);
  void forget(const ProcessKey& key);
  void write_back(std::function<void()> done);
  void drain(const ProcessKey& key, std::function<void(uint64_t stdout_bytes, uint64_t stderr_bytes)> drained);

  host::EventLoop& loop_;
  sandbox::Mux& mux_;
  std::unique_ptr<sandbox::Sandbox> containers_;
  Configurer configure_;
  std::function<void()> ended_;
  std::map<ProcessKey, std::shared_ptr<ProcessStreams>> streams_;
  std::vector<std::unique_ptr<NameServer>> name_servers_;
  bool has_mirrors_ = false;  // their file system is mounted
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace caisson::agent
