#include "agent/reaper.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>

namespace caisson::agent {
namespace {

using namespace std::chrono_literals;

class ReaperTest : public ::testing::Test {
 protected:
  void SetUp() override {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    loop_ = std::move(host::EventLoop::create()).value();
    reaper_ = std::move(Reaper::create(*loop_, 50ms)).value();
  }
  void run_for(std::chrono::milliseconds time) {
    loop_->add_timer(time, [&] { loop_->stop(); });
    EXPECT_TRUE(loop_->run().ok());
  }
  std::unique_ptr<host::EventLoop> loop_;
  std::unique_ptr<Reaper> reaper_;
};

TEST_F(ReaperTest, OrphansAreReaped) {
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 5; ++i)
      if (fork() == 0) {
        usleep(20'000);
        _exit(3);
      }
    _exit(0);
  }
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  run_for(400ms);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST_F(ReaperTest, AStatusThatSomebodyWaitsForIsNotStolen) {
  pid_t watched = fork();
  if (watched == 0) _exit(7);
  usleep(20'000);
  // It has ended before anybody asks, as a container's process may have.
  std::optional<int> status;
  loop_->add_timer(30ms, [&] { EXPECT_TRUE(loop_->watch_child(watched, [&](int wait_status) { status = wait_status; }).ok()); });
  run_for(300ms);
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(WEXITSTATUS(*status), 7);
}

}  // namespace
}  // namespace caisson::agent
