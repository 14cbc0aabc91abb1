#include "sandbox/mux_socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>

namespace caisson::sandbox {
namespace {

constexpr uint32_t kChannel = 7;

std::pair<UniqueFd, UniqueFd> socket_pair() {
  int ends[2] = {-1, -1};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Two muxes over one transport, a socket joined to the same channel at each: what a client and a server talk through.
struct JoinedSockets : testing::Test {
  void SetUp() override {
    loop = std::move(host::EventLoop::create().value());
    auto [left, right] = socket_pair();
    host_mux = std::move(Mux::create(*loop, std::move(left), {.hold_unattached = false}, [](Error) { FAIL(); }).value());
    guest_mux = std::move(Mux::create(*loop, std::move(right), {}, [](Error) { FAIL(); }).value());
    auto [client_far, client_near] = socket_pair();
    auto [server_far, server_near] = socket_pair();
    client = std::move(client_far);
    server = std::move(server_far);
    ASSERT_TRUE(join_socket(*host_mux, kChannel, std::move(client_near), [this] { ++ended; }).ok());
    ASSERT_TRUE(join_socket(*guest_mux, kChannel, std::move(server_near), [this] { ++ended; }).ok());
  }

  void turn() {
    loop->add_timer(std::chrono::milliseconds(50), [this] { loop->stop(); });
    ASSERT_TRUE(loop->run().ok());
  }

  std::string read_some(const UniqueFd& socket) {
    turn();
    std::array<char, 64> bytes{};
    ssize_t got = recv(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    return got < 0 ? "(nothing)" : std::string(bytes.data(), static_cast<size_t>(got));
  }

  std::unique_ptr<host::EventLoop> loop;
  std::unique_ptr<Mux> host_mux, guest_mux;
  UniqueFd client, server;
  int ended = 0;
};

TEST_F(JoinedSockets, CarryBytesBothWaysAndHalfCloses) {
  ASSERT_EQ(write(client.get(), "ask", 3), 3);
  EXPECT_EQ(read_some(server), "ask");
  shutdown(client.get(), SHUT_WR);
  EXPECT_EQ(read_some(server), "") << "the end of the client's half";
  ASSERT_EQ(write(server.get(), "answer", 6), 6);
  EXPECT_EQ(read_some(client), "answer");
  EXPECT_EQ(ended, 0);
  server.reset();
  EXPECT_EQ(read_some(client), "");
  turn();
  EXPECT_EQ(ended, 2);
}

TEST_F(JoinedSockets, EndWhenOneSideDetaches) {
  host_mux->detach(kChannel);
  EXPECT_EQ(read_some(client), "");
  EXPECT_EQ(read_some(server), "");
  EXPECT_EQ(ended, 1) << "a channel that is detached ends in silence; the other side hears of it";
}

}  // namespace
}  // namespace caisson::sandbox
