// libFuzzer target: QEMU's control connection where QEMU has been taken over by its guest. The input is what it sends: bytes as they are,
// or short commands that become well-formed messages, so that commands are answered in any order, twice, or never; in pieces of any size.
// Beyond not crashing: each command is answered exactly once unless its client has gone first, nothing is told after the connection has
// failed or the client has been destroyed (which handlers may do), and no text from there can drive a terminal.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/log.h"
#include "microvm/qemu/qmp.h"

using namespace caisson;           // NOLINT
using namespace caisson::microvm;  // NOLINT

namespace {

constexpr const char* kGreeting = R"({"QMP":{"version":{"qemu":{"micro":0,"minor":2,"major":7}},"capabilities":[]}})";

void expect(bool condition) {
  if (!condition) abort();
}

// Two bytes for each message: what, and a number or a length.
std::string messages_of(const uint8_t* data, size_t size) {
  std::string bytes;
  for (; size >= 2 && bytes.size() < (1 << 20); data += 2, size -= 2) {
    const std::string id = std::to_string(data[1] % 12);
    switch (data[0] % 10) {
      case 0:
        bytes += kGreeting;
        break;
      case 1:
      case 2:
        bytes += R"({"return":{},"id":)" + id + "}";
        break;
      case 3:
        bytes += R"({"error":{"class":"GenericError","desc":"\u001b[2J no"},"id":)" + id + "}";
        break;
      case 4:
        bytes += R"({"error":[],"id":)" + id + "}";
        break;
      case 5:
        bytes += R"({"event":"STOP\u0007","data":{}})";
        break;
      case 6:
        bytes += R"({"return":)" + std::string(data[1] * 64UL, '[') + std::string(data[1] * 64UL, ']') + R"(,"id":)" + id + "}";
        break;
      case 7:
        bytes += R"({"id":-)" + id + R"(,"return":"x"})";
        break;
      case 8:
        bytes += R"({"id":1e)" + id + R"(,"error":{"desc":7}})";
        break;
      case 9:
        bytes += std::string(data[1] * 32UL, ' ');
        continue;  // the line goes on
    }
    bytes += "\n";
  }
  return bytes;
}

bool harmless(const std::string& text) {
  for (const char each : text)
    if ((static_cast<unsigned char>(each) < 0x20 && each != '\n' && each != '\t') || each == 0x7f) return false;
  return true;
}

// The side that speaks to QEMU, and what it knows of it.
struct Front {
  std::unique_ptr<QmpClient> client;
  std::vector<int> answers;  // of each command
  bool destroys_itself = false, failed = false, destroyed = false;

  void destroy() {
    destroyed = true;
    client.reset();
  }
  QmpClient::Done once() {
    answers.push_back(0);
    return [this, index = answers.size() - 1](Result<void> outcome) {
      expect(!destroyed);
      expect(++answers[index] == 1);
      expect(outcome.ok() || harmless(outcome.error().message()));
      if (destroys_itself) destroy();
    };
  }
  void command() {
    if (!destroyed) client->execute("query-status", once());
  }
  void commands() {
    if (!destroyed) client->execute_all({{"stop", "", -1}, {"cont", R"({"a":1})", -1}, {"stop", "{broken", -1}}, once());
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  signal(SIGPIPE, SIG_IGN);
  log::to_descriptor(-1);
  if (size < 2) return 0;
  auto loop = std::move(host::EventLoop::create()).value();
  int ends[2];
  expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const UniqueFd peer(ends[1]);
  const uint8_t how = data[0];
  const bool raw = (how & 1) != 0, reads = (how & 2) == 0;
  std::string bytes = raw ? std::string(reinterpret_cast<const char*>(data + 2), size - 2) : messages_of(data + 2, size - 2);
  if ((how & 4) == 0) bytes.insert(0, std::string(kGreeting) + "\n{\"return\":{},\"id\":1}\n");
  const size_t piece = std::max<size_t>(1 + data[1] * 97UL, bytes.size() / 100);

  Front front;
  front.destroys_itself = (how & 8) != 0;
  front.client = std::move(QmpClient::create(*loop, UniqueFd(ends[0]),
                                             {.ready =
                                                  [&] {
                                                    expect(!front.destroyed);
                                                    front.commands();
                                                    front.command();
                                                  },
                                              .failed =
                                                  [&](const Error& error) {
                                                    expect(!front.destroyed && !std::exchange(front.failed, true));
                                                    expect(harmless(error.message()));
                                                    if ((how & 16) != 0) front.destroy();
                                                  }}))
                     .value();
  if (!reads) {
    // Its buffer is full: commands cannot be sent.
    const int small = 1;
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  }
  char sink[4096];
  for (size_t at = 0; at < bytes.size() && !front.failed && !front.destroyed; at += piece) {
    (void)!send(peer.get(), bytes.data() + at, std::min(piece, bytes.size() - at), MSG_DONTWAIT | MSG_NOSIGNAL);
    loop->post([&] { loop->stop(); });
    expect(loop->run().ok());
    front.command();
    while (reads && recv(peer.get(), sink, sizeof sink, MSG_DONTWAIT) > 0) continue;
  }
  shutdown(peer.get(), SHUT_WR);
  for (int turn = 0; turn < 300 && !front.failed && !front.destroyed; ++turn) {
    loop->post([&] { loop->stop(); });
    expect(loop->run().ok());
  }
  expect(front.failed || front.destroyed);
  front.command();  // refused at once
  if (!front.destroyed)
    for (const int count : front.answers) expect(count == 1);
  return 0;
}
