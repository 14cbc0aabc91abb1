// Typed calls of the Sandbox service on an event loop, for holders and foreground processes.
#pragma once

#include <functional>

#include "rpc/ttrpc.h"
#include "sandbox/sandbox.h"

namespace caisson::cli {

// done gets the decoded response. timeout 0: none.
template <typename Response, typename Request>
void call_sandbox(rpc::AsyncClient& client, std::string_view method, const Request& request, std::chrono::milliseconds timeout,
                  std::function<void(Result<Response>)> done) {
  client.call(sandbox::kServiceName, method, request.SerializeAsString(), timeout, [done = std::move(done)](Result<std::string> payload) {
    if (!payload.ok()) return done(std::move(payload).error());
    Response response;
    if (!response.ParseFromString(*payload)) return done(Error(EPROTO, "the sandbox's answer cannot be decoded"));
    done(std::move(response));
  });
}

}  // namespace caisson::cli
