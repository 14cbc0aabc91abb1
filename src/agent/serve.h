// Serves the Sandbox service over a transport: multiplexer, ttrpc on its control channel, AgentSandbox.
#pragma once

#include "agent/agent_sandbox.h"

namespace caisson::agent {

struct ServeOptions {
  bool virtio_port = true;  // the transport reads 0 while the host is disconnected
  AgentSandbox::Configurer configure;
};

// Runs until Shutdown was called (success) or the transport broke (the error). containers: runs the containers; made by the caller on the
// same loop.
Result<void> serve(host::EventLoop& loop, UniqueFd transport, std::unique_ptr<sandbox::Sandbox> containers, ServeOptions options);

}  // namespace caisson::agent
