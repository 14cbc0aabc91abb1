// The host's side of one guest process's streams: the descriptors that came with a request, joined to channels; for a terminal a pty pair.
#pragma once

#include <sys/ioctl.h>

#include <functional>
#include <memory>
#include <optional>

#include "oci/spec.h"
#include "rpc/ttrpc.h"
#include "sandbox/mux.h"
#include "sandbox/sandbox.h"

namespace caisson::microvm {

class HostStreams {
 public:
  // Joins what `streams` names (indices into fds, which are taken) to new channels, counted from next_channel, and rewrites it to name
  // those: what the agent is told. For a terminal, by the stream's descriptor a console socket, a pty pair is made, its master sent there,
  // and its other side, which is raw (the line discipline is the guest's), joined to one channel. size: what the pty is given at first.
  static Result<std::unique_ptr<HostStreams>> open(sandbox::Mux& mux, sandbox::v1::Streams& streams, rpc::Descriptors& fds,
                                                   const std::optional<oci::ConsoleSize>& size, uint32_t& next_channel);
  ~HostStreams() { close(); }
  HostStreams(const HostStreams&) = delete;
  HostStreams& operator=(const HostStreams&) = delete;

  // Calls done when so many bytes of output have been written to their readers, or these have gone.
  void when_delivered(uint64_t stdout_bytes, uint64_t stderr_bytes, std::function<void()> done);
  // Ends the process's standard input, behind what is there to read.
  void close_stdin();
  // The pty's size if it is not the one that the last call told (whoever holds the master may change it at any time, and nobody tells us).
  std::optional<winsize> changed_size();
  bool has_terminal() const { return terminal_ != 0; }
  // Cuts everything.
  void close();

 private:
  explicit HostStreams(sandbox::Mux& mux) : mux_(mux) {}
  Result<void> open_stream(sandbox::v1::Stream& stream, bool to_process, rpc::Descriptors& fds, uint32_t& channel, uint32_t& next_channel);
  Result<void> open_terminal(sandbox::v1::Stream& stream, rpc::Descriptors& fds, const std::optional<oci::ConsoleSize>& size,
                             uint32_t& next_channel);

  sandbox::Mux& mux_;
  uint32_t in_ = 0, out_ = 0, err_ = 0, terminal_ = 0;  // channels, 0: none
  std::shared_ptr<UniqueFd> pty_;                       // the side that is not the master; closed when the guest's terminal has ended
  winsize told_ = {};
};

}  // namespace caisson::microvm
