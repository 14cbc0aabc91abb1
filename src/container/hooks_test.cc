#include "container/hooks.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

namespace caisson::container {
namespace {

class HooksTest : public ::testing::Test {
 protected:
  HooksTest() {
    char name[] = "/tmp/caisson-hooks-XXXXXX";
    folder_ = mkdtemp(name);
    state_.id = "web";
    state_.status = "creating";
    state_.pid = 42;
    state_.bundle = folder_;
  }
  ~HooksTest() override { std::filesystem::remove_all(folder_); }
  oci::Hook shell(const std::string& script) {
    return oci::Hook{"/bin/sh", {"sh", "-c", script}, {"PATH=/usr/bin:/bin", "NAME=value"}, std::nullopt};
  }
  std::string text(const std::string& file) {
    std::ifstream in(folder_ + "/" + file);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  std::string folder_;
  oci::State state_;
};

TEST_F(HooksTest, GetTheStateTheirEnvironmentAndTheBundleAsFolder) {
  setenv("CAISSON_HOOK_TEST_LEAK", "1", 1);
  Result<void> done = run_hooks(
      "createRuntime", {shell("cat > state; env > environment; pwd > folder; echo $0 > name"), shell("echo second >> name")}, state_);
  ASSERT_TRUE(done.ok()) << done.error().message();
  EXPECT_EQ(text("state"), oci::state_to_json(state_));
  EXPECT_NE(text("environment").find("NAME=value"), std::string::npos);
  EXPECT_EQ(text("environment").find("CAISSON_HOOK_TEST_LEAK"), std::string::npos);
  EXPECT_EQ(text("folder"), folder_ + "\n");
  EXPECT_EQ(text("name"), "sh\nsecond\n");
}

TEST_F(HooksTest, TheFirstFailureEndsItAndIsTold) {
  Result<void> done = run_hooks("poststart", {shell("true"), shell("echo out; echo why >&2; exit 7"), shell("touch never")}, state_);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().message(), "hooks.poststart[1]: /bin/sh ended with status 7; it said: why");
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/never"));
}

TEST_F(HooksTest, SignalsAndMissingPrograms) {
  EXPECT_NE(run_hooks("prestart", {shell("kill -TERM $$")}, state_).error().message().find("signal 15"), std::string::npos);
  Result<void> missing = run_hooks("prestart", {oci::Hook{"/no/such/hook", {}, {}, {}}}, state_);
  EXPECT_EQ(missing.error().code(), ENOENT);
  EXPECT_TRUE(missing.error().message().starts_with("hooks.prestart[0]: /no/such/hook")) << missing.error().message();
}

TEST_F(HooksTest, TimeoutKillsTheWholeGroup) {
  oci::Hook slow = shell("sleep 100 & echo $! > child; wait");
  slow.timeout = 1;
  auto start = std::chrono::steady_clock::now();
  Result<void> done = run_hooks("prestart", {slow}, state_);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code(), ETIMEDOUT);
  int child = std::stoi(text("child"));
  bool gone = false;
  for (int i = 0; i < 100 && !gone; ++i) {  // it may stay a zombie for a moment, for whoever adopted it
    std::ifstream status("/proc/" + std::to_string(child) + "/stat");
    std::string all((std::istreambuf_iterator<char>(status)), {});
    gone = all.empty() || all.find(") Z ") != std::string::npos;
    if (!gone) usleep(10'000);
  }
  EXPECT_TRUE(gone);
}

TEST_F(HooksTest, ABackgroundProcessHoldsNobody) {
  auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(run_hooks("poststop", {shell("sleep 3 & true")}, state_).ok());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST_F(HooksTest, ALotOfErrorOutputIsCut) {
  Result<void> done = run_hooks("poststop", {shell("yes complaint | head -c 1000000 >&2; exit 1")}, state_);
  ASSERT_FALSE(done.ok());
  EXPECT_LT(done.error().message().size(), 5000u);
}

}  // namespace
}  // namespace caisson::container
