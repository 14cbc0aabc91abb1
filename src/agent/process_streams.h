// One process's streams in the guest: pipes or a pty, each joined to a channel.
#pragma once

#include "agent/agent_sandbox.h"

namespace caisson::agent {

struct AgentSandbox::ProcessStreams : std::enable_shared_from_this<AgentSandbox::ProcessStreams> {
  ProcessStreams(host::EventLoop& event_loop, sandbox::Mux& multiplexer) : loop(event_loop), mux(multiplexer) {}
  ~ProcessStreams() { close(); }

  host::EventLoop& loop;
  sandbox::Mux& mux;
  uint32_t in = 0, out = 0, err = 0, terminal = 0;  // channels, 0: none
  UniqueFd console;                                 // our end of the console socket, until the pty's master has come
  UniqueFd master;                                  // for resizing

  // Makes the process's ends, which go to fds, and names them in streams.
  Result<void> open(v1::Streams& streams, rpc::Descriptors& fds);
  // Detaches all channels.
  void close();
  Result<void> resize(uint32_t rows, uint32_t columns) const;

 private:
  Result<void> open_pipe(v1::Stream& stream, bool to_process, uint32_t& channel, rpc::Descriptors& fds);
  Result<void> open_terminal(v1::Stream& stream, rpc::Descriptors& fds);
  void receive_master();
  void hang_up();
};

}  // namespace caisson::agent
