#include "microvm/pod_network.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

namespace caisson::microvm {
namespace {

std::vector<std::string> interfaces() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/class/net")) names.push_back(entry.path().filename());
  return names;
}

// What a take-over of the namespace at path says, from a thread whose own namespace is a new one. It is told to leave all that the node
// has as it is, for the day that the test fails.
std::string refusal(const std::string& path) {
  std::string said;
  std::thread([&] {
    const std::vector<std::string> known = interfaces();
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    auto loop = host::EventLoop::create();
    ASSERT_TRUE(loop.ok());
    take_over_network(**loop, path, {.known = known, .forwards = false}, [&](Result<PodNetwork> network) {
      said = network.ok() ? "taken over" : network.error().message();
      (*loop)->stop();
    });
    EXPECT_TRUE((*loop)->run().ok());
  }).join();
  return said;
}

// A unit test once ran a virtual machine that was not jailed, and the node's own interfaces were redirected to its taps.
TEST(PodNetwork, TheNodesOwnIsNeverTakenOver) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  for (const char* path : {"/proc/self/ns/net", "/proc/1/ns/net"}) {
    if (!UniqueFd(open(path, O_RDONLY | O_CLOEXEC))) continue;  // nobody could take it over
    const std::string said = refusal(path);
    EXPECT_NE(said.find(std::string(path) + " is the node's own network namespace"), std::string::npos) << said;
  }
}

}  // namespace
}  // namespace caisson::microvm
