#include "kernel/vfs/range_locks.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace caisson::kernel {
namespace {

using Held = RangeLocks::Held;
const int kOne = 0, kTwo = 0;

Held lock(const int& owner, off_t first, off_t last, bool exclusive) { return {first, last, exclusive, &owner, 1}; }

TEST(RangeLocks, SharedLocksGoTogetherExclusiveOnesDoNot) {
  RangeLocks locks;
  ASSERT_TRUE(locks.take(lock(kOne, 0, 9, false)));
  EXPECT_FALSE(locks.conflict(lock(kTwo, 5, 20, false)));
  ASSERT_TRUE(locks.conflict(lock(kTwo, 9, 20, true)));
  EXPECT_FALSE(locks.conflict(lock(kTwo, 10, 20, true)));
  EXPECT_FALSE(locks.conflict(lock(kOne, 0, 9, true))) << "one's own locks are never in the way";
}

TEST(RangeLocks, ReleaseSplits) {
  RangeLocks locks;
  ASSERT_TRUE(locks.take(lock(kOne, 0, RangeLocks::kEnd, true)));
  locks.release(&kOne, 10, 19);
  ASSERT_EQ(locks.all().size(), 2u);
  EXPECT_FALSE(locks.conflict(lock(kTwo, 10, 19, true)));
  EXPECT_TRUE(locks.conflict(lock(kTwo, 9, 9, false)));
  EXPECT_TRUE(locks.conflict(lock(kTwo, 20, RangeLocks::kEnd, false)));
  locks.release(&kOne, 0, RangeLocks::kEnd);
  EXPECT_TRUE(locks.empty());
}

TEST(RangeLocks, NeighboursBecomeOne) {
  RangeLocks locks;
  for (off_t i = 0; i < 1000; ++i) ASSERT_TRUE(locks.take(lock(kOne, i * 10, i * 10 + 9, true)));
  EXPECT_EQ(locks.all().size(), 1u);
  ASSERT_TRUE(locks.take(lock(kOne, 500, 509, false)));
  EXPECT_EQ(locks.all().size(), 3u) << "an exclusive lock was made shared in its middle";
}

TEST(RangeLocks, TooManyAreRefused) {
  RangeLocks locks;
  Result<void> taken;
  off_t i = 0;
  for (; taken.ok() && i < 100000; ++i) taken = locks.take(lock(kOne, i * 10, i * 10, true));
  EXPECT_EQ(taken.error(), Errno(ENOLCK));
  EXPECT_LE(locks.all().size(), RangeLocks::kMost);
}

// Against a map of single bytes.
TEST(RangeLocks, AgreesWithASimpleModel) {
  std::mt19937 random(7);
  RangeLocks locks;
  std::map<std::pair<const void*, off_t>, bool> model;
  for (int step = 0; step < 3000; ++step) {
    const int& owner = random() % 2 != 0 ? kOne : kTwo;
    const off_t first = random() % 30;
    const off_t last = first + random() % 8;
    const bool exclusive = random() % 2 != 0;
    if (random() % 3 == 0) {
      locks.release(&owner, first, last);
      for (off_t byte = first; byte <= last; ++byte) model.erase({&owner, byte});
      continue;
    }
    bool free = true;
    for (const auto& [key, is_exclusive] : model)
      if (key.first != &owner && key.second >= first && key.second <= last && (exclusive || is_exclusive)) free = false;
    ASSERT_EQ(!locks.conflict(lock(owner, first, last, exclusive)), free) << "step " << step;
    if (!free) continue;
    ASSERT_TRUE(locks.take(lock(owner, first, last, exclusive)));
    for (off_t byte = first; byte <= last; ++byte) model[{&owner, byte}] = exclusive;
  }
}

}  // namespace
}  // namespace caisson::kernel
