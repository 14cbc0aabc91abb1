// The parts of LocalSandbox that need no container.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/process.h"
#include "sandbox/local/container.h"
#include "sandbox/local/exit_watch.h"
#include "sandbox/local/streams.h"
#include "sandbox/local/terminal.h"

namespace caisson::sandbox::local {
namespace {

using std::chrono::milliseconds;

// Every step from every state: exactly the legal ones are taken.
TEST(StateTest, StepsOfTheLifecycle) {
  const auto make = [](size_t index) -> State {
    switch (index) {
      case 0:
        return Creating();
      case 1:
        return Created();
      case 2:
        return Running();
      case 3:
        return Paused();
      default:
        return Stopped();
    }
  };
  std::string legal;
  for (size_t from = 0; from < std::variant_size_v<State>; ++from) {
    for (size_t to = 0; to < std::variant_size_v<State>; ++to) {
      State state = make(from);
      auto taken = step(state, make(to), "c1");
      if (taken) legal += fmt::format("{}-{} ", name_of(make(from)), name_of(state));
      EXPECT_EQ(state.index(), taken ? to : from);
      EXPECT_TRUE(taken || taken.error().message().find("c1") != std::string::npos);
    }
  }
  EXPECT_EQ(legal, "creating-created created-running created-stopped running-paused running-stopped paused-running paused-stopped ");
}

v1::Event event_of(const std::string& container) {
  v1::Event event;
  event.set_container_id(container);
  event.set_kind(v1::Event::CREATED);
  return event;
}

TEST(EventLogTest, AnswersNowOrWithTheNextEvent) {
  EventLog log;
  std::vector<v1::EventsResponse> answers;
  const auto collect = [&](Result<v1::EventsResponse> answer) { answers.push_back(*answer); };
  log.poll(0, collect);
  EXPECT_TRUE(answers.empty());
  log.add(event_of("a"));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].events(0).sequence(), 1u);
  EXPECT_GT(answers[0].events(0).at_unix_nanos(), 0);
  log.add(event_of("b"));
  log.poll(0, collect);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[1].events_size(), 2);
  log.poll(1, collect);
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[2].events(0).container_id(), "b");
  log.poll(7, collect);  // from the future, perhaps of a sandbox that was there before
  log.add(event_of("c"));
  EXPECT_EQ(answers.size(), 3u);
  log.close();
  ASSERT_EQ(answers.size(), 4u);
  EXPECT_EQ(answers[3].events_size(), 0);
}

TEST(EventLogTest, IsBounded) {
  EventLog log;
  for (size_t i = 0; i < kMaxEvents + 10; ++i) log.add(event_of("x"));
  v1::EventsResponse all;
  log.poll(0, [&](Result<v1::EventsResponse> answer) { all = *answer; });
  EXPECT_EQ(all.events_size(), static_cast<int>(kMaxEvents));
  EXPECT_EQ(all.events(0).sequence(), 11u);
  size_t answered = 0;
  for (size_t i = 0; i < kMaxPolls + 5; ++i)
    log.poll(kMaxEvents + 10, [&](Result<v1::EventsResponse> answer) {
      ++answered;
      EXPECT_EQ(answer->events_size(), 0);
    });
  EXPECT_EQ(answered, 5u);
  log.close();
}

class LoopTest : public ::testing::Test {
 protected:
  std::unique_ptr<host::EventLoop> loop_ = std::move(host::EventLoop::create()).value();
  void turn() {
    loop_->add_timer(milliseconds(5), [this] { loop_->stop(); });
    ASSERT_TRUE(loop_->run().ok());
  }
};

TEST_F(LoopTest, OperationsRunInTheirOrder) {
  OperationQueue queue(*loop_);
  std::string order;
  std::map<char, OperationQueue::Turn> held;
  const auto operation = [&](char name) {
    return [&, name](OperationQueue::Turn turn) {
      order += name;
      held[name] = std::move(turn);
    };
  };
  queue.shared(operation('a'));
  queue.shared(operation('b'));
  queue.exclusive(operation('X'));
  queue.shared(operation('c'));
  queue.exclusive(operation('Y'));
  EXPECT_EQ(order, "ab");  // at once, beside each other
  held.erase('a');
  turn();
  EXPECT_EQ(order, "ab");
  held.erase('b');
  EXPECT_EQ(order, "ab");  // not from inside whoever ends it
  turn();
  EXPECT_EQ(order, "abX");
  turn();
  EXPECT_EQ(order, "abX");
  held.erase('X');
  turn();
  EXPECT_EQ(order, "abXc");
  held.clear();
  turn();
  EXPECT_EQ(order, "abXcY");
}

// An operation that forgets its Turn does not stop the queue.
TEST_F(LoopTest, ForgottenTurnEndsTheOperation) {
  OperationQueue queue(*loop_);
  int runs = 0;
  queue.exclusive([&](OperationQueue::Turn) { ++runs; });
  queue.exclusive([&](OperationQueue::Turn) { ++runs; });
  turn();
  EXPECT_EQ(runs, 2);
}

TEST_F(LoopTest, StatusOfAZombieAndOfAReapedProcess) {
  if (!sibling_status_supported()) GTEST_SKIP() << "needs Linux 6.15";
  for (const bool reaped_first : {false, true}) {
    const pid_t child = fork();
    if (child == 0) {
      pause();
      _exit(0);
    }
    auto pidfd = host::open_pidfd(child);
    ASSERT_TRUE(pidfd.ok());
    ASSERT_EQ(kill(child, SIGUSR1), 0);
    siginfo_t info{};
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | (reaped_first ? 0 : WNOWAIT)), 0);
    int seen = 0;
    ASSERT_TRUE(watch_sibling_exit(*loop_, pidfd->get(), child, [&](int status) {
      seen = status;
      loop_->stop();
    }));
    ASSERT_TRUE(loop_->run().ok());
    EXPECT_TRUE(WIFSIGNALED(seen) && WTERMSIG(seen) == SIGUSR1) << seen << " reaped first: " << reaped_first;
    waitpid(child, nullptr, WNOHANG);
  }
}

TEST_F(LoopTest, ClosedQueueHoldsNothingBack) {
  auto queue = std::make_shared<OperationQueue>(*loop_);
  std::weak_ptr<OperationQueue> alive = queue;
  OperationQueue::Turn held;
  int runs = 0;
  queue->exclusive([&held](OperationQueue::Turn turn) { held = std::move(turn); });
  queue->exclusive([&runs, queue](OperationQueue::Turn) { ++runs; });  // keeps its own queue alive, as a container's operations do
  EXPECT_EQ(runs, 0);
  queue->close();
  EXPECT_EQ(runs, 1);
  queue->shared([&runs](OperationQueue::Turn) { ++runs; });
  EXPECT_EQ(runs, 2);
  held.reset();
  queue.reset();
  EXPECT_TRUE(alive.expired());
}

TEST(StreamsTest, IndicesAreChecked) {
  rpc::Descriptors fds;
  fds.emplace_back(dup(0));
  v1::Streams streams;
  streams.mutable_stdin()->set_descriptor(0);
  streams.mutable_stdout()->set_descriptor(0);
  google::protobuf::RepeatedField<uint32_t> preserved;
  auto stdio = take_stdio(streams, preserved, fds);
  ASSERT_TRUE(stdio.ok());
  EXPECT_TRUE(stdio->in.valid() && stdio->out.valid() && !stdio->err.valid());
  EXPECT_NE(stdio->in.get(), stdio->out.get());
  EXPECT_EQ(descriptors_of(*stdio).size(), 2u);
  streams.mutable_stderr()->set_descriptor(1);
  EXPECT_EQ(take_stdio(streams, preserved, fds).error().code(), EINVAL);
  streams.mutable_stderr()->set_channel(5);
  EXPECT_EQ(take_stdio(streams, preserved, fds).error().code(), EINVAL);
  streams.clear_stderr();
  preserved.Add(4000000000u);
  EXPECT_EQ(take_stdio(streams, preserved, fds).error().code(), EINVAL);
}

TEST(TerminalTest, ProcessWithoutOne) {
  const pid_t child = fork();
  if (child == 0) {
    for (int fd = 0; fd < 3; ++fd) close(fd);
    pause();
    _exit(0);
  }
  EXPECT_EQ(resize_terminal(child, 1, 1).error().code(), ENOTTY);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_FALSE(resize_terminal(child, 1, 1).ok());
}

TEST(ExitTest, StatusAsShellsHaveIt) {
  EXPECT_EQ(exit_from_wait_status(7 << 8).status, 7);
  EXPECT_EQ(exit_from_wait_status(SIGKILL).status, 137);
}

}  // namespace
}  // namespace caisson::sandbox::local
