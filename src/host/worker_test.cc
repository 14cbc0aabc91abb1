#include "host/worker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/files.h"

namespace caisson::host {
namespace {

using std::chrono::milliseconds;

class WorkerTest : public ::testing::Test {
 protected:
  // Workers that had answered when the loop stopped.
  void TearDown() override {
    while (waitpid(-1, nullptr, __WALL) > 0) continue;
  }

  Result<WorkerOutput> run(WorkerOptions options, std::function<Result<WorkerOutput>()> work) {
    std::optional<Result<WorkerOutput>> outcome;
    run_worker(*loop_, std::move(options), std::move(work), [&](Result<WorkerOutput> result) {
      outcome.emplace(std::move(result));
      loop_->stop();
    });
    EXPECT_FALSE(outcome) << "done ran before run_worker returned";
    EXPECT_TRUE(loop_->run().ok());
    return std::move(*outcome);
  }

  // Turns the loop until workers that have answered are reaped.
  void settle() {
    loop_->add_timer(milliseconds(50), [this] { loop_->stop(); });
    EXPECT_TRUE(loop_->run().ok());
  }

  std::unique_ptr<EventLoop> loop_ = std::move(EventLoop::create()).value();
};

TEST_F(WorkerTest, GivesPayloadAndDescriptorsBack) {
  auto result = run({}, [&]() -> Result<WorkerOutput> {
    WorkerOutput output;
    output.payload = "pid " + std::to_string(getpid());
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) return errno_error("pipe");
    if (write(fds[1], "hello", 5) != 5) return errno_error("write");
    output.fds.emplace_back(fds[0]);
    return output;
  });
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_NE(result->payload, "pid " + std::to_string(getpid()));
  ASSERT_EQ(result->fds.size(), 1u);
  EXPECT_EQ(*read_descriptor(result->fds[0].get()), "hello");
  settle();
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a worker is left";
}

TEST_F(WorkerTest, BigPayload) {
  const std::string big(20 << 20, 'x');
  auto result = run({}, [&] { return WorkerOutput{big, {}}; });
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_EQ(result->payload, big);
}

TEST_F(WorkerTest, ErrorKeepsCodeAndText) {
  auto result = run({}, []() -> Result<WorkerOutput> { return make_error(ENOSPC, "the disk \"{}\" is full", "a"); });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), ENOSPC);
  EXPECT_EQ(result.error().message(), "the disk \"a\" is full");
}

TEST_F(WorkerTest, DeathWithoutResult) {
  auto killed = run({}, []() -> Result<WorkerOutput> {
    raise(SIGKILL);
    return WorkerOutput{};
  });
  ASSERT_FALSE(killed.ok());
  EXPECT_EQ(killed.error().code(), EIO);
  EXPECT_NE(killed.error().message().find("signal 9"), std::string::npos) << killed.error().message();
  auto exited = run({}, []() -> Result<WorkerOutput> { _exit(3); });
  ASSERT_FALSE(exited.ok());
  EXPECT_NE(exited.error().message().find("status 3"), std::string::npos) << exited.error().message();
}

// A process that the worker leaves behind holds the worker's socket: its death must be noticed all the same.
TEST_F(WorkerTest, DeathIsNoticedThoughADescendantLives) {
  UniqueFd stay_read, stay_write;
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  stay_read.reset(fds[0]);
  stay_write.reset(fds[1]);
  auto result = run({}, [&]() -> Result<WorkerOutput> {
    if (fork() == 0) {
      stay_write.reset();
      char byte;
      (void)!read(stay_read.get(), &byte, 1);
      _exit(0);
    }
    _exit(1);
  });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), EIO);
}

TEST_F(WorkerTest, DeadlineKills) {
  const auto start = EventLoop::Clock::now();
  auto result = run({.deadline = milliseconds(30)}, []() -> Result<WorkerOutput> {
    pause();
    return WorkerOutput{};
  });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), ETIMEDOUT);
  EXPECT_LT(EventLoop::Clock::now() - start, std::chrono::seconds(5));
  settle();
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
}

TEST_F(WorkerTest, CanBeCancelled) {
  std::optional<int> code;
  auto cancel = run_worker(
      *loop_, {},
      []() -> Result<WorkerOutput> {
        pause();
        return WorkerOutput{};
      },
      [&](Result<WorkerOutput> result) {
        code = result.ok() ? 0 : result.error().code();
        loop_->stop();
      });
  cancel();
  EXPECT_FALSE(code);
  ASSERT_TRUE(loop_->run().ok());
  EXPECT_EQ(code, ECANCELED);
  cancel();  // without effect
}

TEST_F(WorkerTest, KeepsOnlyTheDescriptorsItIsGiven) {
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  UniqueFd kept(fds[0]), closed(fds[1]);
  auto result = run({.keep_fds = std::vector<int>{kept.get()}}, [&]() -> Result<WorkerOutput> {
    return WorkerOutput{fmt::format("{} {}", fcntl(kept.get(), F_GETFD) >= 0, fcntl(closed.get(), F_GETFD) >= 0), {}};
  });
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_EQ(result->payload, "true false");
}

// Sibling: the worker's parent is ours, and so is that of what it makes with CLONE_PARENT.
TEST_F(WorkerTest, SiblingIsAChildOfOurParent) {
  const pid_t parent = getpid();
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  UniqueFd report_read(fds[0]), report_write(fds[1]);
  const pid_t middle = fork();
  if (middle == 0) {
    loop_ = std::move(EventLoop::create()).value();
    auto result = run({.sibling = true}, []() -> Result<WorkerOutput> { return WorkerOutput{std::to_string(getppid()), {}}; });
    const std::string text = result ? result->payload : result.error().message();
    (void)!write(report_write.get(), text.data(), text.size());
    auto dead = run({.sibling = true}, []() -> Result<WorkerOutput> { _exit(1); });
    (void)!write(report_write.get(), dead ? "?" : "!", 1);
    _exit(0);
  }
  report_write.reset();
  EXPECT_EQ(*read_descriptor(report_read.get()), std::to_string(parent) + "!");
  int children = 0;
  while (waitpid(-1, nullptr, __WALL) > 0) ++children;
  EXPECT_EQ(children, 3);
}

TEST_F(WorkerTest, ManyAtOnce) {
  int done = 0;
  for (int i = 0; i < 20; ++i)
    run_worker(
        *loop_, {},
        [i]() -> Result<WorkerOutput> {
          return WorkerOutput{std::to_string(i), {}};
        },
        [&, i](Result<WorkerOutput> result) {
          ASSERT_TRUE(result.ok());
          EXPECT_EQ(result->payload, std::to_string(i));
          if (++done == 20) loop_->stop();
        });
  ASSERT_TRUE(loop_->run().ok());
  EXPECT_EQ(done, 20);
}

}  // namespace
}  // namespace caisson::host
