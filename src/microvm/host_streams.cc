#include "microvm/host_streams.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <termios.h>

#include "host/files.h"

namespace caisson::microvm {
namespace {

struct Pty {
  UniqueFd master, slave;
  std::string name;
};

Result<Pty> make_raw_pty(const std::optional<oci::ConsoleSize>& size) {
  Pty pty;
  pty.master.reset(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!pty.master) return errno_error("cannot open /dev/ptmx");
  int unlocked = 0, number = 0;
  if (ioctl(pty.master.get(), TIOCSPTLCK, &unlocked) != 0 || ioctl(pty.master.get(), TIOCGPTN, &number) != 0)
    return errno_error("cannot set a pty up");
  pty.slave.reset(ioctl(pty.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!pty.slave) return errno_error("cannot open a pty");
  pty.name = fmt::format("/dev/pts/{}", number);
  termios settings = {};
  if (tcgetattr(pty.slave.get(), &settings) != 0) return errno_error("cannot read a pty's settings");
  cfmakeraw(&settings);
  if (tcsetattr(pty.slave.get(), TCSANOW, &settings) != 0) return errno_error("cannot make a pty raw");
  if (size) {
    winsize window = {.ws_row = static_cast<unsigned short>(size->height), .ws_col = static_cast<unsigned short>(size->width)};
    if (ioctl(pty.slave.get(), TIOCSWINSZ, &window) != 0) return errno_error("cannot set a pty's size");
  }
  return pty;
}

Result<UniqueFd> take(rpc::Descriptors& fds, uint32_t index) {
  if (index >= fds.size() || !fds[index].valid())
    return make_error(EINVAL, "streams: there is no descriptor {}, or it is named twice", index);
  return std::move(fds[index]);
}

Result<UniqueFd> duplicate(int fd) {
  UniqueFd twin(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!twin) return errno_error("cannot duplicate a descriptor");
  return twin;
}

}  // namespace

Result<void> HostStreams::open_stream(sandbox::v1::Stream& stream, bool to_process, rpc::Descriptors& fds, uint32_t& channel,
                                      uint32_t& next_channel) {
  if (stream.carrier_case() == sandbox::v1::Stream::CARRIER_NOT_SET) return {};
  if (stream.carrier_case() != sandbox::v1::Stream::kDescriptor)
    return make_error(EINVAL, "streams: a channel is of no use here; a descriptor is needed");
  UniqueFd fd = TRY(take(fds, stream.descriptor()));
  uint32_t number = next_channel++;
  TRY(mux_.attach(number, to_process ? std::move(fd) : UniqueFd(), to_process ? UniqueFd() : std::move(fd), {}));
  channel = number;
  stream.set_channel(number);
  return {};
}

Result<void> HostStreams::open_terminal(sandbox::v1::Stream& stream, rpc::Descriptors& fds, const std::optional<oci::ConsoleSize>& size,
                                        uint32_t& next_channel) {
  if (stream.carrier_case() != sandbox::v1::Stream::kDescriptor) return make_error(EINVAL, "streams.terminal: a console socket is needed");
  UniqueFd console = TRY(take(fds, stream.descriptor()));
  Pty pty = TRY(make_raw_pty(size));
  Result<size_t> sent = host::send_some_with_fds(console.get(), pty.name, {pty.master.get()}, MSG_DONTWAIT);
  if (!sent.ok()) return std::move(sent).error().within("cannot send the terminal to the console socket");
  pty_ = std::make_shared<UniqueFd>(TRY(duplicate(pty.slave.get())));
  UniqueFd sink = TRY(duplicate(pty.slave.get()));
  uint32_t number = next_channel++;
  // All sides of the pty must be closed for the master's reader to see the end.
  auto ended = [pty = pty_, mux = &mux_, number] {
    mux->detach(number);
    pty->reset();
  };
  TRY(mux_.attach(number, std::move(pty.slave), std::move(sink), {.sink_closed = ended}));
  terminal_ = number;
  stream.set_channel(number);
  return {};
}

Result<std::unique_ptr<HostStreams>> HostStreams::open(sandbox::Mux& mux, sandbox::v1::Streams& streams, rpc::Descriptors& fds,
                                                       const std::optional<oci::ConsoleSize>& size, uint32_t& next_channel) {
  std::unique_ptr<HostStreams> opened(new HostStreams(mux));
  if (streams.has_terminal() && streams.terminal().carrier_case() != sandbox::v1::Stream::CARRIER_NOT_SET) {
    TRY(opened->open_terminal(*streams.mutable_terminal(), fds, size, next_channel));
    streams.clear_stdin();
    streams.clear_stdout();
    streams.clear_stderr();
    return opened;
  }
  if (streams.has_stdin()) TRY(opened->open_stream(*streams.mutable_stdin(), true, fds, opened->in_, next_channel));
  if (streams.has_stdout()) TRY(opened->open_stream(*streams.mutable_stdout(), false, fds, opened->out_, next_channel));
  if (streams.has_stderr()) TRY(opened->open_stream(*streams.mutable_stderr(), false, fds, opened->err_, next_channel));
  return opened;
}

void HostStreams::when_delivered(uint64_t stdout_bytes, uint64_t stderr_bytes, std::function<void()> done) {
  uint32_t out = terminal_ != 0 ? terminal_ : out_;
  auto then_err = [this, stderr_bytes, done = std::move(done)] {
    if (err_ == 0) return done();
    mux_.when_delivered(err_, stderr_bytes, done);
  };
  if (out == 0) return then_err();
  mux_.when_delivered(out, stdout_bytes, then_err);
}

void HostStreams::close_stdin() {
  if (in_ != 0) mux_.close_source(in_);
}

std::optional<winsize> HostStreams::changed_size() {
  winsize now = {};
  if (!pty_ || !pty_->valid() || ioctl(pty_->get(), TIOCGWINSZ, &now) != 0) return {};
  if (now.ws_row == told_.ws_row && now.ws_col == told_.ws_col) return {};
  told_ = now;
  return now;
}

void HostStreams::close() {
  for (uint32_t* channel : {&in_, &out_, &err_, &terminal_})
    if (uint32_t number = std::exchange(*channel, 0); number != 0) mux_.detach(number);
  if (pty_) pty_->reset();
}

}  // namespace caisson::microvm
