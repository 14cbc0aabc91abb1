#include "sandbox/mux_socket.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <utility>

namespace caisson::sandbox {
namespace {

struct Joined {
  Mux& mux;
  uint32_t channel;
  UniqueFd socket;
  std::function<void()> ended;
  bool source_done = false, sink_done = false;

  // Runs in a turn of the mux's: it is there.
  void finish_if_done() {
    if (!source_done || !sink_done) return;
    socket.reset();
    auto tell = std::exchange(ended, nullptr);
    mux.detach(channel);  // frees this
    if (tell) tell();
  }
};

Result<UniqueFd> duplicate(const UniqueFd& fd) {
  UniqueFd twin(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  if (!twin) return errno_error("duplicate a descriptor");
  return twin;
}

}  // namespace

Result<void> join_socket(Mux& mux, uint32_t channel, UniqueFd socket, std::function<void()> ended) {
  UniqueFd source = TRY(duplicate(socket)), sink = TRY(duplicate(socket));
  auto joined = std::make_shared<Joined>(Joined{mux, channel, std::move(socket), std::move(ended)});
  Mux::ChannelEvents events;
  events.source_eof = [joined] {
    joined->source_done = true;
    joined->finish_if_done();
  };
  events.sink_closed = [joined] {
    shutdown(joined->socket.get(), SHUT_WR);
    joined->sink_done = true;
    joined->finish_if_done();
  };
  return mux.attach(channel, std::move(source), std::move(sink), std::move(events));
}

}  // namespace caisson::sandbox
