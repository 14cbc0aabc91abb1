// libFuzzer target: the multiplexer against a hostile peer. The input is either the peer's bytes as they are, or a list of short commands
// that become frames (so that deep states are reached). Beyond not crashing: what the mux sends is well-formed and keeps to its credit;
// what it delivers never exceeds what was sent; and whoever waits is answered when it has failed.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>

#include "sandbox/mux.h"
#include "sandbox/mux_frame.h"

using namespace caisson;           // NOLINT
using namespace caisson::sandbox;  // NOLINT

namespace {

void expect(bool condition) {
  if (!condition) abort();
}

std::string frame(FrameType type, uint32_t channel, std::string_view payload) {
  std::string bytes(kFrameHeaderBytes, '\0');
  encode_header(bytes.data(), type, channel, static_cast<uint32_t>(payload.size()));
  return bytes.append(payload);
}

// Each command is four bytes: type, channel, and a length or amount. granted: credit given, per channel.
std::string frames_of(const uint8_t* data, size_t size, std::map<uint32_t, uint64_t>& granted) {
  std::string bytes;
  std::string filler(kMaxFramePayload, 'f');
  for (; size >= 4 && bytes.size() < (2 << 20); data += 4, size -= 4) {
    uint32_t amount = data[2] | data[3] << 8;
    switch (data[0] % 6) {
      case 0:
      case 1:
        bytes += frame(FrameType::Data, data[1] % 6, std::string_view(filler).substr(0, amount + 1));
        break;
      case 2:
        bytes += frame(FrameType::Credit, data[1] % 6, {reinterpret_cast<const char*>(data), 4});
        granted[data[1] % 6] += data[0] | data[1] << 8 | amount << 16;
        break;
      case 3: {
        granted[data[1] % 6] += amount;
        char credit[4] = {static_cast<char>(amount), static_cast<char>(amount >> 8), 0, 0};
        bytes += frame(FrameType::Credit, data[1] % 6, {credit, 4});
        break;
      }
      case 4:
        bytes += frame(FrameType::Eof, data[1] % 6, {});
        break;
      case 5:
        bytes += frame(FrameType::Reset, data[1] % 6, {});
        break;
    }
  }
  return bytes;
}

struct Peer {
  UniqueFd socket;
  std::string to_send;
  FrameReader reader;
  std::map<uint32_t, uint64_t> received;  // bytes of data per channel

  // Sends and receives what goes without blocking. False: the mux has closed.
  bool exchange() {
    while (!to_send.empty()) {
      ssize_t n = send(socket.get(), to_send.data(), to_send.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n <= 0) break;
      to_send.erase(0, static_cast<size_t>(n));
    }
    if (to_send.empty()) shutdown(socket.get(), SHUT_WR);
    for (;;) {
      auto space = reader.space();
      ssize_t n = recv(socket.get(), space.data(), space.size(), MSG_DONTWAIT);
      if (n == 0) return false;
      if (n < 0) return errno == EAGAIN;
      reader.filled(static_cast<size_t>(n));
      Frame got;
      for (;;) {
        auto more = reader.next(got);
        expect(more.ok());
        if (!*more) break;
        if (got.type == FrameType::Data) received[got.channel] += got.payload.size();
      }
    }
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  signal(SIGPIPE, SIG_IGN);
  if (size < 2) return 0;
  auto loop = std::move(host::EventLoop::create()).value();
  int ends[2];
  expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  Peer peer{.socket = UniqueFd(ends[1])};
  bool raw = (data[0] & 1) != 0;
  std::map<uint32_t, uint64_t> granted;
  if (raw)
    peer.to_send.assign(reinterpret_cast<const char*>(data + 2), size - 2);
  else
    peer.to_send = frame(FrameType::Hello, 0, kHelloPayload) + frames_of(data + 2, size - 2, granted);
  uint64_t sent_bytes = peer.to_send.size();

  bool failed = false;
  auto mux =
      std::move(Mux::create(*loop, UniqueFd(ends[0]), {.poll_on_zero_read = false, .hold_unattached = (data[0] & 2) != 0}, [&](Error) {
        failed = true;
      })).value();
  UniqueFd control = std::move(mux->attach_socket(0)).value();
  int out[2], in[2];
  expect(pipe2(out, O_CLOEXEC | O_NONBLOCK) == 0 && pipe2(in, O_CLOEXEC | O_NONBLOCK) == 0);
  UniqueFd out_reader(out[0]), in_writer(in[1]);
  expect(mux->attach(1, UniqueFd(), UniqueFd(out[1]), {}).ok());
  expect(mux->attach(2, UniqueFd(in[0]), UniqueFd(), {}).ok());
  expect(mux->attach(3, UniqueFd(open("/dev/zero", O_RDONLY | O_CLOEXEC)), UniqueFd(open("/dev/null", O_WRONLY | O_CLOEXEC)), {}).ok());
  if (data[1] & 1) mux->detach(1);
  if (data[1] & 2) out_reader.reset();
  if (data[1] & 4) expect(write(in_writer.get(), "some input", 10) == 10);
  int answers = 0;
  mux->drain(2, [&](uint64_t) { ++answers; });
  mux->when_delivered(1, UINT64_MAX, [&] { ++answers; });

  bool late = false;
  for (int turn = 0; !failed && turn < 2000; ++turn) {
    if ((data[1] & 8) && turn == 3 && !std::exchange(late, true))
      (void)mux->attach(4, UniqueFd(), UniqueFd(open("/dev/null", O_WRONLY | O_CLOEXEC)), {});
    char sink[4096];
    if (out_reader.valid())
      while (read(out_reader.get(), sink, sizeof sink) > 0) {
      }
    while (recv(control.get(), sink, sizeof sink, MSG_DONTWAIT) > 0) {
    }
    peer.exchange();
    loop->post([&] { loop->stop(); });
    expect(loop->run().ok());
  }
  expect(failed);
  expect(mux->delivered(1) <= sent_bytes);
  for (const auto& [channel, bytes] : peer.received) expect(raw || bytes <= kInitialCredit + granted[channel]);
  out_reader.reset();
  in_writer.reset();
  for (int turn = 0; answers < 2 && turn < 100; ++turn) {
    loop->post([&] { loop->stop(); });
    expect(loop->run().ok());
  }
  expect(answers == 2);
  return 0;
}
