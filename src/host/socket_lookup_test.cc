#include "host/socket_lookup.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

namespace caisson::host {
namespace {

constexpr uint16_t kPort = 4321;

UniqueFd connect_to_loopback(int family) {
  UniqueFd client(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address{};
  address.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
    v4->sin_port = htons(kPort);
    v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
    v6->sin6_port = htons(kPort);
    v6->sin6_addr = in6addr_loopback;
  }
  if (connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return {};
  return client;
}

uint16_t port_of(int socket) {
  sockaddr_in6 name{};
  socklen_t size = sizeof name;
  return getsockname(socket, reinterpret_cast<sockaddr*>(&name), &size) == 0 ? ntohs(name.sin6_port) : 0;
}

// In a child with a network namespace of its own.
void catch_them() {
  ASSERT_EQ(unshare(CLONE_NEWNET), 0);
  ASSERT_EQ(system("ip link set lo up"), 0);
  EXPECT_FALSE(connect_to_loopback(AF_INET)) << "nobody listens yet";
  {
    auto caught = catch_connections();
    ASSERT_TRUE(caught.ok()) << caught.error().message();
    for (int family : {AF_INET, AF_INET6}) {
      UniqueFd client = connect_to_loopback(family);
      ASSERT_TRUE(client) << "family " << family;
      pollfd ready{caught->listener.get(), POLLIN, 0};
      ASSERT_EQ(poll(&ready, 1, 5000), 1);
      UniqueFd server(accept4(caught->listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      ASSERT_TRUE(server);
      EXPECT_EQ(port_of(server.get()), kPort) << "the port that the client asked for";
      ASSERT_EQ(write(client.get(), "x", 1), 1);
      char byte = 0;
      EXPECT_EQ(read(server.get(), &byte, 1), 1);
    }
  }
  EXPECT_FALSE(connect_to_loopback(AF_INET)) << "the program has gone with its descriptors";
}

TEST(SocketLookup, CatchesEveryConnectionOfTheNamespace) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: makes network namespaces";
  pid_t pid = fork();
  if (pid == 0) {
    catch_them();
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0) << "see the failures above";
}

}  // namespace
}  // namespace caisson::host
