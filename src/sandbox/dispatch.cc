#include <signal.h>

#include "sandbox/sandbox.h"

namespace caisson::sandbox {
namespace {

// One RPC: decodes the request, calls the sandbox's member, encodes what it replies.
template <typename Request, typename Response>
void invoke(Sandbox& sandbox, void (Sandbox::*method)(Request, rpc::Descriptors, Reply<Response>), rpc::Call call) {
  Request request;
  if (!request.ParseFromString(call.payload)) return call.respond(make_error(EINVAL, "the request of {} cannot be decoded", call.method));
  (sandbox.*method)(std::move(request), std::move(call.fds), [respond = call.respond](Result<Response> result) {
    if (!result) return respond(std::move(result).error());
    respond(result->SerializeAsString());
  });
}

// A holder that is killed takes the process that it stands for with it, as if the signal had reached that.
void kill_with_stand_in(Sandbox& sandbox, const rpc::Call& call) {
  v1::WaitProcessRequest wait;
  if (!wait.ParseFromString(call.payload) || !wait.stand_in()) return;
  call.respond.on_disconnect([&sandbox, wait] {
    v1::SignalProcessRequest kill;
    kill.set_container_id(wait.container_id());
    kill.set_exec_id(wait.exec_id());
    kill.set_signal(SIGKILL);
    sandbox.SignalProcess(std::move(kill), {}, [](Result<v1::SignalProcessResponse>) {});
  });
}

}  // namespace

void dispatch(Sandbox& sandbox, rpc::Call call) {
  if (call.service != kServiceName) return call.respond(make_error(ENOSYS, "there is no service {} here", call.service.substr(0, 100)));
  if (call.method == "WaitProcess") kill_with_stand_in(sandbox, call);
#define CAISSON_METHOD(Name) \
  if (call.method == #Name) return invoke(sandbox, &Sandbox::Name, std::move(call));
  CAISSON_SANDBOX_METHODS(CAISSON_METHOD)
  CAISSON_SANDBOX_OPTIONAL_METHODS(CAISSON_METHOD)
#undef CAISSON_METHOD
  call.respond(make_error(ENOSYS, "there is no method {} here", call.method.substr(0, 100)));
}

}  // namespace caisson::sandbox
