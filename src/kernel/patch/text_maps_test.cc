#include "kernel/patch/text_maps.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "kernel/patch/thunks.h"
#include "kernel/stub/layout.h"

namespace caisson::kernel {
namespace {

const std::string kMaps =
    "00400000-00500000 r-xp 00000000 fe:00 12                    /bin/static program\n"
    "00500000-00510000 rwxp 00100000 fe:00 12                    /bin/static program\n"
    "00510000-00520000 r-xs 00100000 fe:00 12                    /bin/shared\n"
    "00520000-00530000 r-xp 00000000 00:00 0\n"
    "7e0000000000-7e0000010000 r-xs 00000000 00:01 5              /memfd:stub-blob (deleted)\n"
    "7e0010000000-7e0018000000 rw-s 00000000 00:01 6              /memfd:guest-slots (deleted)\n"
    "7ffff7000000-7ffff7200000 r-xp 00000000 fe:00 99             /lib/libc.so\n"
    "7ffff7200000-7ffff7201000 rw-p 00000000 00:00 0\n";

TEST(TextMaps, OnlyPrivateTextOfFiles) {
  EXPECT_TRUE(is_private_text(kMaps, 0x400000, 0x400007));
  EXPECT_TRUE(is_private_text(kMaps, 0x4ffff9, 0x500000));
  EXPECT_FALSE(is_private_text(kMaps, 0x4ffffc, 0x500003)) << "across the end";
  EXPECT_FALSE(is_private_text(kMaps, 0x500000, 0x500007)) << "writable";
  EXPECT_FALSE(is_private_text(kMaps, 0x510000, 0x510007)) << "shared";
  EXPECT_FALSE(is_private_text(kMaps, 0x520000, 0x520007)) << "no file's";
  EXPECT_FALSE(is_private_text(kMaps, 0x600000, 0x600007)) << "nothing there";
  EXPECT_FALSE(is_private_text("nonsense\n\n", 0x400000, 0x400007));
  EXPECT_EQ(protection_at(kMaps, 0x500000), static_cast<uint64_t>(PROT_READ | PROT_WRITE | PROT_EXEC));
  EXPECT_EQ(protection_at(kMaps, 0x600000), 0u);
}

TEST(TextMaps, PlacesAreFreeAndNear) {
  for (const uint64_t near : {0x400000UL, 0x4fffffUL, 0x7ffff7000000UL, 0x7ffff71fffffUL}) {
    const uint64_t at = place_near(kMaps, near, ThunkRegion::kSize);
    ASSERT_NE(at, 0u);
    EXPECT_EQ(at % ThunkRegion::kSize, 0u);
    EXPECT_GE(at, 0x10000u);
    EXPECT_TRUE(ThunkRegion::reaches(at, near));
    EXPECT_EQ(protection_at(kMaps, at), 0u);
    EXPECT_EQ(protection_at(kMaps, at + ThunkRegion::kSize - 1), 0u);
    EXPECT_TRUE(at + ThunkRegion::kSize <= STUB_WINDOW || at >= STUB_WINDOW_END);
  }
  EXPECT_EQ(place_near("00001000-7fffffffe000 rw-p 00000000 00:00 0\n", 0x400000, ThunkRegion::kSize), 0u);
}

TEST(Thunks, AddressesInThemAreTheGuests) {
  auto made = ThunkRegion::create(0x10000000);
  ASSERT_TRUE(made.ok());
  ThunkRegion& region = **made;
  const uint8_t code[] = {0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0x48, 0x3d, 1, 0xf0, 0xff, 0xff};
  const std::optional<Thunk> move = region.add(0x10400005, {CallForm::Move, 5, 0}, code);
  ASSERT_TRUE(move);
  EXPECT_EQ(move->guest_rip(move->start), 0x10400000u);
  EXPECT_EQ(move->guest_rip(move->start + 5), 0x10400005u);
  EXPECT_EQ(move->guest_rip(move->call), 0x10400005u);
  EXPECT_EQ(move->guest_rip(move->call + 2), 0x10400007u);
  const std::optional<Thunk> next = region.add(0x10400105, {CallForm::Next, 0, 6}, std::span(code).subspan(5));
  ASSERT_TRUE(next);
  EXPECT_EQ((next->start - (0x10400105 + kJumpLength)) >> 8 & 0xff, kBreakpoint);
  EXPECT_EQ(next->guest_rip(next->call + 2), 0x10400107u);
  EXPECT_EQ(next->guest_rip(next->call + 2 + 6), 0x1040010du);
  EXPECT_EQ(region.find(next->call)->site, 0x10400105u);
  EXPECT_FALSE(region.find(0x10000000));
  EXPECT_FALSE(region.find(0x20000000));
  // The region ends some time, and says so.
  int more = 0;
  while (more < 5000 && region.add(0x10400005, {CallForm::Move, 5, 0}, code)) ++more;
  EXPECT_EQ(more, 1023 - 2);
}

}  // namespace
}  // namespace caisson::kernel
