#include "kernel/time/guest_timer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

constexpr int64_t kMilli = 1'000'000;
GuestTimer::Source monotonic() {
  return {[] { return monotonic_now(); }, {}};
}
void sleep_ms(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

TEST(GuestTimer, FiresOnceAndIsOff) {
  std::atomic<uint64_t> fired{0};
  auto timer = std::make_shared<GuestTimer>(monotonic(), false, [&](uint64_t n) { fired += n; });
  timer->set(3'600'000 * kMilli, 0, false);
  EXPECT_GT(timer->get().left, 0);
  timer->set(5 * kMilli, 0, false);
  for (int i = 0; i < 1000 && fired == 0; ++i) sleep_ms(1);
  EXPECT_EQ(fired, 1U);
  EXPECT_EQ(timer->get().left, 0);
}

TEST(GuestTimer, RestsUntilItIsTaken) {
  std::atomic<int> woken{0};
  auto timer = std::make_shared<GuestTimer>(monotonic(), true, [&](uint64_t) { ++woken; });
  timer->set(kMilli, kMilli, false);
  sleep_ms(30);
  EXPECT_EQ(woken, 1);
  EXPECT_GE(timer->take(), 20U);
  for (int i = 0; i < 1000 && woken == 1; ++i) sleep_ms(1);
  EXPECT_EQ(woken, 2);
}

TEST(GuestTimer, ATimeThatHasPassedIsDueAtOnce) {
  auto timer = std::make_shared<GuestTimer>(monotonic(), true, [](uint64_t) {});
  timer->set(monotonic_now() - 1, 0, true);
  EXPECT_TRUE(timer->due());
  EXPECT_EQ(timer->take(), 1U);
  EXPECT_FALSE(timer->due());
}

TEST(GuestTimer, ANanosecondsIntervalDoesNotSpin) {
  std::atomic<int> calls{0};
  auto timer = std::make_shared<GuestTimer>(monotonic(), false, [&](uint64_t) { ++calls; });
  timer->set(1, 1, false);
  sleep_ms(50);
  timer->set(0, 0, false);
  EXPECT_LT(calls, 2000);
  EXPECT_GT(calls, 10);
}

TEST(GuestTimer, OneThatDiesIsForgotten) {
  std::atomic<int> calls{0};
  for (int i = 0; i < 100; ++i) {
    auto timer = std::make_shared<GuestTimer>(monotonic(), false, [&](uint64_t) { ++calls; });
    timer->set(20 * kMilli, 0, false);
  }
  sleep_ms(40);
  EXPECT_EQ(calls, 0);
}

TEST(GuestTimer, FollowsAClockThatStands) {
  std::atomic<int64_t> clock{0};
  std::atomic<int> calls{0};
  auto timer =
      std::make_shared<GuestTimer>(GuestTimer::Source{[&] { return clock.load(); }, [] { return 2; }}, false, [&](uint64_t) { ++calls; });
  timer->set(10 * kMilli, 0, false);
  sleep_ms(40);
  EXPECT_EQ(calls, 0);
  clock = 11 * kMilli;
  for (int i = 0; i < 1000 && calls == 0; ++i) sleep_ms(1);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace caisson::kernel
