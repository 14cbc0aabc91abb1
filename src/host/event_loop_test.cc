#include "host/event_loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace caisson::host {
namespace {

using std::chrono::milliseconds;

struct Pipe {
  UniqueFd read, write;
  Pipe() {
    int fds[2];
    EXPECT_EQ(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    read.reset(fds[0]);
    write.reset(fds[1]);
  }
};

class EventLoopTest : public ::testing::Test {
 protected:
  std::unique_ptr<EventLoop> loop_ = std::move(EventLoop::create()).value();
};

TEST_F(EventLoopTest, CallsHandlersForReadyDescriptors) {
  Pipe pipe;
  std::string seen;
  ASSERT_TRUE(loop_->add(pipe.read.get(), EPOLLIN, [&](uint32_t) {
    char byte;
    if (read(pipe.read.get(), &byte, 1) == 1) seen += byte;
    if (seen == "ab") loop_->stop();
  }));
  ASSERT_EQ(write(pipe.write.get(), "ab", 2), 2);
  ASSERT_TRUE(loop_->run().ok());
  EXPECT_EQ(seen, "ab");
}

TEST_F(EventLoopTest, RemovedDescriptorGetsNoEventOfTheSameTurn) {
  Pipe a, b;
  int calls = 0;
  // Both are ready in one turn; whichever runs first replaces the other by a new watch of the same number.
  auto handler = [&](Pipe& other) {
    return [&](uint32_t) {
      ++calls;
      const int number = other.read.get();
      loop_->remove(number);
      Pipe quiet;
      dup3(quiet.read.get(), number, O_CLOEXEC);
      ASSERT_TRUE(loop_->add(number, EPOLLIN, [](uint32_t) { FAIL() << "an event of the descriptor that was there before"; }));
      loop_->remove(number);
      ASSERT_TRUE(loop_->add(number, EPOLLOUT, [](uint32_t) {}));
      loop_->stop();
    };
  };
  ASSERT_TRUE(loop_->add(a.read.get(), EPOLLIN, handler(b)));
  ASSERT_TRUE(loop_->add(b.read.get(), EPOLLIN, handler(a)));
  ASSERT_EQ(write(a.write.get(), "x", 1), 1);
  ASSERT_EQ(write(b.write.get(), "x", 1), 1);
  ASSERT_TRUE(loop_->run().ok());
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, HandlerMayRemoveItself) {
  Pipe pipe;
  auto alive = std::make_shared<int>(7);
  std::weak_ptr<int> weak = alive;
  ASSERT_TRUE(loop_->add(pipe.read.get(), EPOLLIN, [&, alive](uint32_t) {
    loop_->remove(pipe.read.get());
    EXPECT_EQ(*alive, 7);  // still there while it runs
    loop_->stop();
  }));
  alive.reset();
  ASSERT_EQ(write(pipe.write.get(), "x", 1), 1);
  ASSERT_TRUE(loop_->run().ok());
  EXPECT_TRUE(weak.expired());
}

TEST_F(EventLoopTest, TimersRunInOrderAndCanBeCancelled) {
  std::string order;
  loop_->add_timer(milliseconds(20), [&] {
    order += '3';
    loop_->stop();
  });
  loop_->add_timer(milliseconds(1), [&] { order += '1'; });
  auto cancelled = loop_->add_timer(milliseconds(5), [&] { order += 'x'; });
  loop_->add_timer(milliseconds(2), [&] {
    order += '2';
    loop_->cancel_timer(cancelled);
  });
  const auto start = EventLoop::Clock::now();
  ASSERT_TRUE(loop_->run().ok());
  EXPECT_EQ(order, "123");
  EXPECT_GE(EventLoop::Clock::now() - start, milliseconds(20));
}

TEST_F(EventLoopTest, PostedTasksRunOnceEachTurn) {
  int runs = 0;
  std::function<void()> again = [&] {
    if (++runs == 3) return loop_->stop();
    loop_->post(again);
  };
  loop_->post(again);
  ASSERT_TRUE(loop_->run().ok());
  EXPECT_EQ(runs, 3);
}

TEST_F(EventLoopTest, ChildrenAreReapedWithTheirStatus) {
  const pid_t exits = fork();
  if (exits == 0) _exit(42);
  const pid_t killed = fork();
  if (killed == 0) {
    pause();
    _exit(0);
  }
  int exit_status = 0, kill_status = 0;
  ASSERT_TRUE(loop_->watch_child(exits, [&](int status) {
    exit_status = status;
    kill(killed, SIGTERM);
  }));
  ASSERT_TRUE(loop_->watch_child(killed, [&](int status) {
    kill_status = status;
    loop_->stop();
  }));
  EXPECT_TRUE(loop_->watches_child(exits));
  ASSERT_TRUE(loop_->run().ok());
  EXPECT_EQ(WEXITSTATUS(exit_status), 42);
  EXPECT_EQ(WTERMSIG(kill_status), SIGTERM);
  EXPECT_FALSE(loop_->watches_child(exits));
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
}

TEST_F(EventLoopTest, ChildThatEndedBeforeItWasWatched) {
  const pid_t child = fork();
  if (child == 0) _exit(3);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  int seen = -1;
  ASSERT_TRUE(loop_->watch_child(child, [&](int status) {
    seen = status;
    loop_->stop();
  }));
  ASSERT_TRUE(loop_->run().ok());
  EXPECT_EQ(WEXITSTATUS(seen), 3);
}

TEST_F(EventLoopTest, OrphansAreReapedAndTheirStatusKept) {
  ASSERT_TRUE(loop_->reap_orphans().ok());
  const pid_t early = fork();
  if (early == 0) _exit(5);
  const pid_t watched = fork();
  if (watched == 0) {
    pause();
    _exit(0);
  }
  int watched_status = 0, early_status = 0;
  ASSERT_TRUE(loop_->watch_child(watched, [&](int status) {
    watched_status = status;
    loop_->stop();
  }));
  loop_->add_timer(milliseconds(50), [&] {
    EXPECT_NE(kill(early, 0), 0) << "the orphan is still there";
    // As a worker's answer comes after the process that it tells of has ended.
    ASSERT_TRUE(loop_->watch_child(early, [&](int status) {
      early_status = status;
      kill(watched, SIGTERM);
    }));
  });
  ASSERT_TRUE(loop_->run().ok());
  EXPECT_EQ(WEXITSTATUS(early_status), 5);
  EXPECT_EQ(WTERMSIG(watched_status), SIGTERM);
  EXPECT_FALSE(loop_->take_orphan_status(early));
  EXPECT_FALSE(loop_->watch_child(early, [](int) {}).ok());
}

TEST_F(EventLoopTest, RegularFileCannotBeWatched) {
  UniqueFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  auto added = loop_->add(file.get(), EPOLLIN, [](uint32_t) {});
  ASSERT_FALSE(added.ok());
  EXPECT_EQ(added.error().code(), EPERM);
}

}  // namespace
}  // namespace caisson::host
