// SandboxClient: blocking calls into a sandbox, for the command line.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "sandbox/sandbox.h"

namespace caisson::sandbox {

class SandboxClient {
 public:
  static Result<SandboxClient> connect(const std::string& socket_path);
  explicit SandboxClient(rpc::Client client) : client_(std::move(client)) {}

  // One method per RPC: CreateContainer(request, {fds}, timeout). timeout 0: none. fds are borrowed.
#define CAISSON_METHOD(Name)                                                                          \
  Result<v1::Name##Response> Name(const v1::Name##Request& request, const std::vector<int>& fds = {}, \
                                  std::chrono::milliseconds timeout = std::chrono::seconds(60));
  CAISSON_SANDBOX_METHODS(CAISSON_METHOD)
#undef CAISSON_METHOD
  int fd() const { return client_.fd(); }

 private:
  rpc::Client client_;
};

}  // namespace caisson::sandbox
