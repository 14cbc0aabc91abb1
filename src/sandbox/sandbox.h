// Sandbox: what every isolation implements; the C++ face of caisson.sandbox.v1.Sandbox.
#pragma once

#include <functional>

#include "base/result.h"
#include "rpc/ttrpc.h"
#include "sandbox.pb.h"
#include "sandbox/methods.h"

namespace caisson::sandbox {

inline constexpr const char* kServiceName = "caisson.sandbox.v1.Sandbox";

// Gives the answer of one call, once, then or later, on the event loop's thread.
template <typename Response>
using Reply = std::function<void(Result<Response>)>;

// Every call is asynchronous: it returns at once and replies when done. Runs on one event loop; no call may block it.
class Sandbox {
 public:
  virtual ~Sandbox() = default;
#define CAISSON_METHOD(Name) virtual void Name(v1::Name##Request request, rpc::Descriptors fds, Reply<v1::Name##Response> reply) = 0;
  CAISSON_SANDBOX_METHODS(CAISSON_METHOD)
#undef CAISSON_METHOD
#define CAISSON_METHOD(Name)                                                                \
  virtual void Name(v1::Name##Request, rpc::Descriptors, Reply<v1::Name##Response> reply) { \
    reply(make_error(ENOTSUP, "this sandbox does not support the method " #Name));          \
  }
  CAISSON_SANDBOX_OPTIONAL_METHODS(CAISSON_METHOD)
#undef CAISSON_METHOD
};

// Decodes a ttrpc call, calls the sandbox, encodes the reply. For rpc::Server's handler.
void dispatch(Sandbox& sandbox, rpc::Call call);

}  // namespace caisson::sandbox
