#include "agent/name_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>

namespace caisson::agent {
namespace {

constexpr uint32_t kChannel = 5;
const std::string kAddress = "127.0.53.11";

std::string query(char fill, size_t size = 30) { return std::string(size, fill); }

// Both ends of a multiplexer in one loop: the name server, and a host that answers each message with itself, its last letter changed.
class NameServerTest : public testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);  // as every program of ours that has a multiplexer
    loop = std::move(*host::EventLoop::create());
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    auto broken = [](Error error) { FAIL() << error.message(); };
    host_mux = std::move(*sandbox::Mux::create(*loop, UniqueFd(ends[0]), {.hold_unattached = false}, broken));
    guest_mux = std::move(*sandbox::Mux::create(*loop, UniqueFd(ends[1]), {}, broken));
    host_side = std::move(*sandbox::NameChannel::create(
        *loop, std::move(*host_mux->attach_socket(kChannel)),
        [this](sandbox::NameFrame frame) {
          seen.push_back(frame);
          frame.message.back() = '!';
          if (answers) host_side->send(frame);
        },
        [] {}));
    // Any free port: others may use this machine.
    UniqueFd probe(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in any = place(0);
    socklen_t size = sizeof any;
    ASSERT_EQ(bind(probe.get(), reinterpret_cast<sockaddr*>(&any), sizeof any), 0);
    ASSERT_EQ(getsockname(probe.get(), reinterpret_cast<sockaddr*>(&any), &size), 0);
    port = ntohs(any.sin_port);
    probe.reset();
    auto made = NameServer::create(*loop, *guest_mux, kAddress, port, kChannel);
    ASSERT_TRUE(made.ok()) << made.error().message();
    server = std::move(*made);
  }
  static sockaddr_in place(uint16_t port) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    inet_pton(AF_INET, kAddress.c_str(), &at.sin_addr);
    return at;
  }
  UniqueFd client(int type) {
    UniqueFd fd(socket(AF_INET, type | SOCK_CLOEXEC, 0));
    sockaddr_in at = place(port);
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
    return fd;
  }
  // Runs the loop until the descriptor can be read, and reads.
  std::string answer(int fd, size_t most = 4096) {
    EXPECT_TRUE(loop->add(fd, EPOLLIN, [this](uint32_t) { loop->stop(); }).ok());
    auto timer = loop->add_timer(std::chrono::seconds(20), [this] { loop->stop(); });
    EXPECT_TRUE(loop->run().ok());
    loop->cancel_timer(timer);
    loop->remove(fd);
    std::string text(most, '\0');
    const ssize_t got = recv(fd, text.data(), text.size(), MSG_DONTWAIT);
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return text;
  }

  std::unique_ptr<host::EventLoop> loop;
  std::unique_ptr<sandbox::Mux> host_mux, guest_mux;
  std::unique_ptr<sandbox::NameChannel> host_side;
  std::unique_ptr<NameServer> server;
  std::vector<sandbox::NameFrame> seen;
  bool answers = true;
  uint16_t port = 0;
};

TEST_F(NameServerTest, EachSenderOfADatagramGetsItsOwnAnswer) {
  UniqueFd one = client(SOCK_DGRAM), two = client(SOCK_DGRAM);
  ASSERT_EQ(send(one.get(), "short", 5, 0), 5);  // no header: dropped
  ASSERT_EQ(send(one.get(), query('1').data(), 30, 0), 30);
  ASSERT_EQ(send(two.get(), query('2').data(), 30, 0), 30);
  EXPECT_EQ(answer(one.get()), query('1', 29) + "!");
  EXPECT_EQ(answer(two.get()), query('2', 29) + "!");
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_FALSE(seen[0].tcp);
  EXPECT_NE(seen[0].key, seen[1].key);
}

TEST_F(NameServerTest, AConnectionCarriesSeveralMessages) {
  UniqueFd connection = client(SOCK_STREAM);
  const std::string both = std::string("\0\x1e", 2) + query('a') + std::string("\0\x1e", 2) + query('b');
  // In pieces that are not messages.
  ASSERT_EQ(send(connection.get(), both.data(), 40, 0), 40);
  ASSERT_EQ(send(connection.get(), both.data() + 40, both.size() - 40, 0), static_cast<ssize_t>(both.size()) - 40);
  std::string said;
  while (said.size() < both.size()) {
    const std::string more = answer(connection.get());
    ASSERT_FALSE(more.empty());
    said += more;
  }
  EXPECT_EQ(said, std::string("\0\x1e", 2) + query('a', 29) + "!" + std::string("\0\x1e", 2) + query('b', 29) + "!");
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_TRUE(seen[0].tcp);
}

TEST_F(NameServerTest, AConnectionThatSaysNonsenseIsClosed) {
  UniqueFd connection = client(SOCK_STREAM);
  ASSERT_EQ(send(connection.get(), "\0\1x", 3, 0), 3);
  EXPECT_EQ(answer(connection.get()), "");
  EXPECT_TRUE(seen.empty());
}

TEST_F(NameServerTest, QuestionsWithoutAnswersAreBounded) {
  answers = false;
  UniqueFd flood = client(SOCK_DGRAM);
  for (int i = 0; i < 2000; ++i) {
    (void)send(flood.get(), query('f').data(), 30, MSG_DONTWAIT);
    if (i % 50 != 0) continue;
    loop->post([this] { loop->post([this] { loop->stop(); }); });
    ASSERT_TRUE(loop->run().ok());
  }
  loop->add_timer(std::chrono::milliseconds(50), [this] { loop->stop(); });
  ASSERT_TRUE(loop->run().ok());
  EXPECT_GT(seen.size(), 100u);
  EXPECT_LE(seen.size(), 256u);
}

TEST_F(NameServerTest, OnlyALoopbackAddressThatIsFree) {
  EXPECT_EQ(NameServer::create(*loop, *guest_mux, "10.0.0.1", port, 6).error().code(), EINVAL);
  EXPECT_EQ(NameServer::create(*loop, *guest_mux, "nonsense", port, 6).error().code(), EINVAL);
  EXPECT_EQ(NameServer::create(*loop, *guest_mux, kAddress, port, 6).error().code(), EADDRINUSE);
}

}  // namespace
}  // namespace caisson::agent
