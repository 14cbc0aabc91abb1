#include "agent/process_streams.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/log.h"
#include "host/files.h"

namespace caisson::agent {
namespace {

constexpr int kPipeBytes = 256 << 10;

}  // namespace

// A stream that names a channel becomes one that names a descriptor: the process's end of a new pipe.
Result<void> AgentSandbox::ProcessStreams::open_pipe(v1::Stream& stream, bool to_process, uint32_t& channel, rpc::Descriptors& fds) {
  if (stream.carrier_case() == v1::Stream::kDescriptor) return make_error(EINVAL, "streams: a descriptor cannot reach a guest");
  if (stream.carrier_case() != v1::Stream::kChannel) return {};
  if (stream.channel() == sandbox::kControlChannel) return make_error(EINVAL, "streams: channel 0 is not for streams");
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return errno_error("cannot make a pipe");
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  // Fewer turns between the process and us: a turn is dear in a guest. Where the kernel refuses, the usual size does.
  (void)fcntl(ends[0], F_SETPIPE_SZ, kPipeBytes);
  UniqueFd& ours = to_process ? write_end : read_end;
  UniqueFd& theirs = to_process ? read_end : write_end;
  TRY(mux.attach(stream.channel(), to_process ? UniqueFd() : std::move(ours), to_process ? std::move(ours) : UniqueFd(), {}));
  channel = stream.channel();
  stream.set_descriptor(static_cast<uint32_t>(fds.size()));
  fds.push_back(std::move(theirs));
  return {};
}

Result<void> AgentSandbox::ProcessStreams::open_terminal(v1::Stream& stream, rpc::Descriptors& fds) {
  if (stream.carrier_case() == v1::Stream::kDescriptor) return make_error(EINVAL, "streams: a descriptor cannot reach a guest");
  if (stream.carrier_case() != v1::Stream::kChannel) return {};
  if (stream.channel() == sandbox::kControlChannel) return make_error(EINVAL, "streams: channel 0 is not for streams");
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return errno_error("cannot make a socket pair");
  console.reset(ends[0]);
  UniqueFd theirs(ends[1]);
  terminal = stream.channel();
  TRY(loop.add(console.get(), EPOLLIN, [weak = weak_from_this()](uint32_t) {
    if (auto self = weak.lock()) self->receive_master();
  }));
  stream.set_descriptor(static_cast<uint32_t>(fds.size()));
  fds.push_back(std::move(theirs));
  return {};
}

void AgentSandbox::ProcessStreams::receive_master() {
  std::vector<UniqueFd> received;
  char name[256];
  Result<size_t> got = host::recv_with_fds(console.get(), name, sizeof name, received, MSG_DONTWAIT);
  if (!got.ok() && got.error().code() == EAGAIN) return;
  loop.remove(console.get());
  console.reset();
  if (received.empty()) return;  // the process was never made; its creator says why
  master = std::move(received.front());
  UniqueFd source(fcntl(master.get(), F_DUPFD_CLOEXEC, 3)), sink(fcntl(master.get(), F_DUPFD_CLOEXEC, 3));
  auto attached = mux.attach(terminal, std::move(source), std::move(sink), {.sink_closed = [weak = weak_from_this()] {
                               if (auto self = weak.lock()) self->hang_up();
                             }});
  if (!attached.ok()) {
    log::error("cannot join a terminal to its channel: {}", attached.error().message());
    master.reset();
  }
}

// The terminal's user has gone, or all who had the terminal open inside have. What they wrote is sent; then the master closes, and whoever
// is left gets SIGHUP.
void AgentSandbox::ProcessStreams::hang_up() {
  mux.drain(terminal, [weak = weak_from_this()](uint64_t) {
    auto self = weak.lock();
    if (!self) return;
    self->master.reset();
    self->mux.detach(self->terminal);
  });
}

Result<void> AgentSandbox::ProcessStreams::open(v1::Streams& streams, rpc::Descriptors& fds) {
  if (streams.has_terminal()) return open_terminal(*streams.mutable_terminal(), fds);
  if (streams.has_stdin()) TRY(open_pipe(*streams.mutable_stdin(), true, in, fds));
  if (streams.has_stdout()) TRY(open_pipe(*streams.mutable_stdout(), false, out, fds));
  if (streams.has_stderr()) TRY(open_pipe(*streams.mutable_stderr(), false, err, fds));
  return {};
}

void AgentSandbox::ProcessStreams::close() {
  if (console.valid()) {
    loop.remove(console.get());
    console.reset();
  }
  master.reset();
  for (uint32_t* channel : {&in, &out, &err, &terminal})
    if (uint32_t number = std::exchange(*channel, 0); number != 0) mux.detach(number);
}

Result<void> AgentSandbox::ProcessStreams::resize(uint32_t rows, uint32_t columns) const {
  if (!master.valid()) return make_error(ENOTTY, "the process has no terminal (any more)");
  winsize size = {.ws_row = static_cast<unsigned short>(rows), .ws_col = static_cast<unsigned short>(columns)};
  if (ioctl(master.get(), TIOCSWINSZ, &size) != 0) return errno_error("cannot resize the terminal");
  return {};
}

}  // namespace caisson::agent
