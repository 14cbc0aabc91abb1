#include "host/network.h"

#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>

#include "host/namespaces.h"

namespace caisson::host {
namespace {

// Runs body in a process with a network namespace of its own; its failures are printed and make the test fail.
void in_new_network(const std::function<void()>& body) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: makes network namespaces";
  pid_t pid = fork();
  if (pid == 0) {
    if (unshare(CLONE_NEWNET) != 0) _exit(99);
    body();
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0) << "see the failures above";
}

int run(const char* command) { return std::system(command); }

TEST(Network, ReadsWhatAPluginHasSetUp) {
  in_new_network([] {
    ASSERT_EQ(run("ip link add eth0 address 02:00:00:00:00:01 type veth peer name p0 && ip addr add 10.1.2.3/24 dev eth0 && ip -6 addr add "
                  "fd00::3/64 dev eth0 nodad && "
                  "ip link set eth0 mtu 1400 up && ip link set p0 up && ip route add default via 10.1.2.1 && ip neigh add 10.1.2.9 lladdr "
                  "02:00:00:00:00:09 dev eth0 nud permanent && "
                  "ip route add 10.9.0.0/16 via 10.1.2.7 metric 5 mtu 1300"),
              0);
    auto network = read_network();
    ASSERT_TRUE(network.ok()) << network.error().message();
    auto eth0 = std::find_if(network->interfaces.begin(), network->interfaces.end(), [](const auto& row) { return row.name == "eth0"; });
    ASSERT_NE(eth0, network->interfaces.end());
    EXPECT_EQ(eth0->kind, "veth");
    EXPECT_EQ(eth0->mac, "02:00:00:00:00:01");
    EXPECT_EQ(eth0->mtu, 1400U);
    EXPECT_TRUE(eth0->up);
    auto has_address = [&](const char* text) {
      return std::any_of(eth0->addresses.begin(), eth0->addresses.end(), [&](const auto& row) { return row.address == text; });
    };
    EXPECT_TRUE(has_address("10.1.2.3/24"));
    EXPECT_TRUE(has_address("fd00::3/64"));
    ASSERT_EQ(std::count_if(network->routes.begin(), network->routes.end(), [](const auto& row) { return row.family == AF_INET; }), 2);
    for (const NetworkRoute& route : network->routes) {
      if (route.family != AF_INET) continue;
      EXPECT_EQ(route.interface, "eth0");
      EXPECT_EQ(route.gateway, route.destination == "default" ? "10.1.2.1" : "10.1.2.7");
      if (route.destination != "default") {
        EXPECT_EQ(route.metric, 5U);
        EXPECT_EQ(route.mtu, 1300U);
      }
    }
    ASSERT_EQ(network->neighbours.size(), 1U);
    EXPECT_EQ(network->neighbours[0].address, "10.1.2.9");
    EXPECT_EQ(network->neighbours[0].mac, "02:00:00:00:00:09");
  });
}

TEST(Network, WhatWasReadIsMadeAgainElsewhere) {
  in_new_network([] {
    ASSERT_EQ(run("ip link add eth0 address 02:00:00:00:00:01 type veth peer name p0 && ip addr add 10.1.2.3/24 dev eth0 && ip -6 addr add "
                  "fd00::3/64 dev eth0 nodad && "
                  "ip link set eth0 mtu 1400 up && ip link set p0 up && ip route add default via 10.1.2.1 && ip neigh add 10.1.2.9 lladdr "
                  "02:00:00:00:00:09 dev eth0 nud permanent && "
                  "ip -6 route add default via fd00::1"),
              0);
    auto network = read_network();
    ASSERT_TRUE(network.ok()) << network.error().message();
    std::erase_if(network->interfaces, [](const auto& row) { return row.name == "p0"; });
    std::erase_if(network->routes, [](const auto& row) { return row.interface == "p0"; });
    // A guest's driver has named it otherwise.
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    ASSERT_EQ(run("ip link add enp1s0 address 02:00:00:00:00:01 type veth peer name p0 && ip link set p0 up"), 0);
    Result<void> applied = apply_network(*network);
    ASSERT_TRUE(applied.ok()) << applied.error().message();
    EXPECT_EQ(run("ip -o link show eth0 | grep -q 'mtu 1400.*state UP'"), 0);
    EXPECT_EQ(run("ip -o addr show eth0 | grep -q '10.1.2.3/24'"), 0);
    EXPECT_EQ(run("ip -o addr show eth0 | grep -q 'fd00::3/64'"), 0);
    EXPECT_EQ(run("ip route | grep -q 'default via 10.1.2.1 dev eth0'"), 0);
    EXPECT_EQ(run("ip -6 route | grep -q 'default via fd00::1 dev eth0'"), 0);
    EXPECT_EQ(run("ip neigh | grep -q '10.1.2.9 dev eth0 lladdr 02:00:00:00:00:09 PERMANENT'"), 0);
    Result<void> again = apply_network(*network);
    EXPECT_TRUE(again.ok()) << again.error().message();
    ASSERT_TRUE(flush_addresses("eth0").ok());
    EXPECT_NE(run("ip -o addr show eth0 | grep -q inet"), 0);
  });
}

TEST(Network, AMissingInterfaceIsNamed) {
  in_new_network([] {
    Network network;
    network.interfaces.push_back({.name = "eth7", .mac = "02:00:00:00:00:77"});
    Result<void> applied = apply_network(network);
    ASSERT_FALSE(applied.ok());
    EXPECT_EQ(applied.error().message(), "no network interface has the MAC 02:00:00:00:00:77 of eth7");
    EXPECT_EQ(redirect_between("eth7", "eth8").error().code(), ENODEV);
  });
}

TEST(Network, ARedirectCarriesFramesBothWays) {
  in_new_network([] {
    if (access("/dev/net/tun", R_OK) != 0) _exit(0);
    ASSERT_EQ(run("ip link add eth0 type veth peer name p0 && ip link set eth0 up && ip link set p0 up && ip addr add 10.5.0.1/24 dev p0"),
              0);
    auto tap = create_tap("tap0", 1500);
    ASSERT_TRUE(tap.ok()) << tap.error().message();
    Result<void> joined = redirect_between("eth0", "tap0");
    ASSERT_TRUE(joined.ok()) << joined.error().message();
    // An ARP request that leaves p0 arrives at eth0 and must come out of the tap's descriptor.
    ASSERT_EQ(run("ip neigh flush dev p0; (timeout 2 ping -c1 -W1 10.5.0.2 >/dev/null 2>&1 || timeout 2 bash -c 'echo x > "
                  "/dev/udp/10.5.0.2/9') ; true"),
              0);
    char frame[2048];
    bool arp = false;
    for (ssize_t got; (got = read(tap->get(), frame, sizeof frame)) > 0;)
      arp = arp || (got > 12 + 14 && static_cast<unsigned char>(frame[12 + 12]) == 0x08 && frame[12 + 13] == 0x06);
    EXPECT_TRUE(arp);
  });
}

}  // namespace
}  // namespace caisson::host
