#include "sandbox/client.h"

namespace caisson::sandbox {
namespace {

template <typename Response, typename Request>
Result<Response> call(rpc::Client& client, std::string_view method, const Request& request, const std::vector<int>& fds,
                      std::chrono::milliseconds timeout) {
  const std::string payload = TRY(client.call(kServiceName, method, request.SerializeAsString(), fds, timeout));
  Response response;
  if (!response.ParseFromString(payload)) return make_error(EPROTO, "the sandbox's answer to {} cannot be decoded", method);
  return response;
}

}  // namespace

Result<SandboxClient> SandboxClient::connect(const std::string& socket_path) {
  return SandboxClient(TRY(rpc::Client::connect(socket_path)));
}

#define CAISSON_METHOD(Name)                                                                                    \
  Result<v1::Name##Response> SandboxClient::Name(const v1::Name##Request& request, const std::vector<int>& fds, \
                                                 std::chrono::milliseconds timeout) {                           \
    return call<v1::Name##Response>(client_, #Name, request, fds, timeout);                                     \
  }
CAISSON_SANDBOX_METHODS(CAISSON_METHOD)
#undef CAISSON_METHOD

}  // namespace caisson::sandbox
