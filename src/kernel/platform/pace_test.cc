#include "kernel/platform/pace.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace caisson::kernel {
namespace {

// A process in the place of a stub.
struct PaceTest : testing::Test {
  void SetUp() override {
    stub = fork();
    if (stub == 0)
      for (;;) pause();
    ASSERT_GT(stub, 0);
    ASSERT_EQ(sched_getaffinity(getpid(), sizeof all, &all), 0);
  }
  void TearDown() override {
    kill(stub, SIGKILL);
    waitpid(stub, nullptr, 0);
  }
  int cpus_of(pid_t thread) {
    cpu_set_t set;
    return sched_getaffinity(thread, sizeof set, &set) == 0 ? CPU_COUNT(&set) : -1;
  }
  void call(int times) {
    for (int i = 0; i < times; ++i) {
      pace.before_guest(stub);
      pace.after_guest();
    }
  }
  template <typename Condition>
  bool soon(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }
  pid_t stub = 0;
  cpu_set_t all{};
  Pace pace;
};

TEST_F(PaceTest, FewCallsChangeNothing) {
  call(3);
  EXPECT_EQ(pace.mode(), Pace::Mode::Free);
  EXPECT_EQ(cpus_of(stub), CPU_COUNT(&all));
}

TEST_F(PaceTest, QuickCallsShareACpuOrSpin) {
  call(50);
  ASSERT_NE(pace.mode(), Pace::Mode::Free);
  if (pace.mode() == Pace::Mode::Following) {
    EXPECT_EQ(cpus_of(stub), 1);
    EXPECT_EQ(cpus_of(0), 1);
    EXPECT_EQ(pace.spin_ticks(), 0U);
  } else {
    EXPECT_GT(pace.spin_ticks(), 0U);
    cpu_set_t its, ours, both;
    ASSERT_EQ(sched_getaffinity(stub, sizeof its, &its), 0);
    ASSERT_EQ(sched_getaffinity(0, sizeof ours, &ours), 0);
    CPU_AND(&both, &its, &ours);
    EXPECT_EQ(CPU_COUNT(&both), 0);  // on one they would wait for each other
  }
  pace.settle();
  EXPECT_EQ(cpus_of(stub), CPU_COUNT(&all));
  EXPECT_EQ(cpus_of(0), CPU_COUNT(&all));
}

TEST_F(PaceTest, WhoStopsCallingIsFree) {
  call(50);
  EXPECT_TRUE(soon([&] { return cpus_of(stub) == CPU_COUNT(&all) && cpus_of(0) == CPU_COUNT(&all); }));
}

TEST_F(PaceTest, AnotherCpuIsChosenNowAndThen) {
  call(50);
  // Calls all the time: the keeper does not see it quiet, but its own clock does let it go.
  EXPECT_TRUE(soon([&] {
    call(1);
    return cpus_of(stub) == CPU_COUNT(&all);
  }));
}

TEST_F(PaceTest, TheGuestsOwnChoiceStays) {
  cpu_set_t last;
  CPU_ZERO(&last);
  for (int cpu = CPU_SETSIZE - 1; cpu >= 0; --cpu)
    if (CPU_ISSET(cpu, &all)) {
      CPU_SET(cpu, &last);
      break;
    }
  ASSERT_EQ(sched_setaffinity(stub, sizeof last, &last), 0);
  call(50);
  cpu_set_t now;
  ASSERT_EQ(sched_getaffinity(stub, sizeof now, &now), 0);
  EXPECT_TRUE(CPU_EQUAL(&now, &last));
  pace.settle();
  ASSERT_EQ(sched_getaffinity(stub, sizeof now, &now), 0);
  EXPECT_TRUE(CPU_EQUAL(&now, &last));
}

// Somebody else has the stub's CPU for a moment: that alone is no reason to stop, and both have time to wake.
TEST_F(PaceTest, OneLongWaitIsForgiven) {
  call(50);
  if (pace.mode() != Pace::Mode::Spinning) GTEST_SKIP() << "no CPU to spare now";
  const uint32_t usual = pace.spin_ticks();
  pace.before_guest(stub);
  if (pace.mode() != Pace::Mode::Spinning) GTEST_SKIP() << "no CPU to spare now";
  pace.spun_in_vain();
  EXPECT_EQ(pace.mode(), Pace::Mode::Spinning);
  EXPECT_GT(pace.spin_ticks(), usual);
  pace.after_guest();
  EXPECT_EQ(pace.spin_ticks(), usual);
}

TEST_F(PaceTest, SpinningInVainEnds) {
  call(50);
  const bool spinning = pace.mode() == Pace::Mode::Spinning;
  for (int i = 0; i < 8 && pace.mode() == Pace::Mode::Spinning; ++i) {
    pace.spun_in_vain();
    call(1);
  }
  if (spinning) {
    EXPECT_NE(pace.mode(), Pace::Mode::Spinning);
  }
}

}  // namespace
}  // namespace caisson::kernel
