// A ttrpc call of containerd's, decoded; its answer, encoded.
#pragma once

#include <utility>

#include "containerd.pb.h"
#include "rpc/ttrpc.h"
#include "sandbox/sandbox.h"

namespace caisson::shim {

// Decodes the call's request, calls method(request, reply), encodes its reply.
template <typename Request, typename Response, typename Method>
void decode_and_call(rpc::Call& call, Method method) {
  Request request;
  if (!request.ParseFromString(call.payload)) return call.respond(make_error(EINVAL, "{}: malformed request", call.method));
  method(std::move(request), [respond = call.respond](Result<Response> response) {
    if (!response.ok()) return respond(std::move(response).error());
    respond(response->SerializeAsString());
  });
}

}  // namespace caisson::shim
