#include "host/name_answers.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "host/network.h"

namespace caisson::host {
namespace {

sockaddr_in place(const char* address, uint16_t port) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  inet_pton(AF_INET, address, &at.sin_addr);
  return at;
}

// A process with a network namespace of its own, which answers datagrams at 10.5.0.1, port, once it has been given p0.
[[noreturn]] void be_the_server(int ready, int go, uint16_t port) {
  char byte = 0;
  if (unshare(CLONE_NEWNET) != 0 || write(ready, &byte, 1) != 1 || read(go, &byte, 1) != 1) _exit(1);
  if (std::system("ip link set p0 up && ip addr add 10.5.0.1/24 dev p0") != 0) _exit(2);
  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const sockaddr_in at = place("10.5.0.1", port);
  if (bind(socket, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 || write(ready, &byte, 1) != 1) _exit(3);
  for (;;) {
    char text[64];
    sockaddr_in client{};
    socklen_t size = sizeof client;
    const ssize_t got = recvfrom(socket, text, sizeof text, 0, reinterpret_cast<sockaddr*>(&client), &size);
    if (got < 0) _exit(4);
    (void)sendto(socket, text, static_cast<size_t>(got), 0, reinterpret_cast<sockaddr*>(&client), size);
  }
}

// Asks the server from a namespace whose eth0 is joined to a tap that nobody reads. "": no answer.
std::string ask(uint16_t port, bool connected, bool keep) {
  int ready[2], go[2];
  if (pipe(ready) != 0 || pipe(go) != 0 || unshare(CLONE_NEWNET) != 0) return "no pipes";
  const pid_t server = fork();
  if (server == 0) be_the_server(ready[1], go[0], port);
  char byte = 0;
  if (read(ready[0], &byte, 1) != 1) return "no server";
  const std::string set_up = "ip link set lo up && ip link add eth0 type veth peer name p0 && ip link set p0 netns " +
                             std::to_string(server) + " && ip addr add 10.5.0.2/24 dev eth0 && ip link set eth0 up";
  if (std::system(set_up.c_str()) != 0 || write(go[1], &byte, 1) != 1 || read(ready[0], &byte, 1) != 1) return "no network";
  auto tap = create_tap("tap0", 1500);
  if (!tap.ok()) return tap.error().message();
  if (auto joined = redirect_between("eth0", "tap0"); !joined.ok()) return joined.error().message();
  if (keep)
    if (auto kept = keep_name_answers("eth0", "tap0"); !kept.ok()) return kept.error().message();
  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const sockaddr_in at = place("10.5.0.1", port);
  if (connected && connect(socket, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0) return "not connected";
  if (sendto(socket, "name?", 5, 0, connected ? nullptr : reinterpret_cast<const sockaddr*>(&at), connected ? 0 : sizeof at) != 5)
    return "not sent";
  char text[64];
  pollfd answered{socket, POLLIN, 0};
  const ssize_t got = poll(&answered, 1, connected && keep && port == 53 ? 10000 : 300) > 0 ? recv(socket, text, sizeof text, 0) : 0;
  kill(server, SIGKILL);
  waitpid(server, nullptr, 0);
  return std::string(text, got > 0 ? static_cast<size_t>(got) : 0);
}

// In a process of its own: it changes its network namespace.
std::string asked(uint16_t port, bool connected, bool keep) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  const pid_t pid = fork();
  if (pid == 0) {
    const std::string said = ask(port, connected, keep);
    (void)!write(ends[1], said.data(), said.size());
    _exit(0);
  }
  close(ends[1]);
  char text[1024];
  const ssize_t got = read(ends[0], text, sizeof text);
  close(ends[0]);
  waitpid(pid, nullptr, 0);
  return std::string(text, got > 0 ? static_cast<size_t>(got) : 0);
}

class NameAnswers : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: makes network namespaces";
    if (access("/dev/net/tun", R_OK) != 0) GTEST_SKIP() << "the node has no tun driver";
  }
};

TEST_F(NameAnswers, ReachAConnectedSocketOfTheNamespace) {
  EXPECT_EQ(asked(53, true, false), "") << "the redirect takes everything: else this tests nothing";
  EXPECT_EQ(asked(53, true, true), "name?");
}

TEST_F(NameAnswers, OtherDatagramsGoToTheTap) {
  EXPECT_EQ(asked(54, true, true), "") << "another port";
  EXPECT_EQ(asked(53, false, true), "") << "a socket that is not connected";
}

TEST_F(NameAnswers, AMissingInterfaceIsNamed) {
  auto kept = keep_name_answers("no-such-if", "tap0");
  ASSERT_FALSE(kept.ok());
  EXPECT_NE(kept.error().message().find("no-such-if"), std::string::npos);
}

}  // namespace
}  // namespace caisson::host
