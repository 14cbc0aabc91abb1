#include "kernel/platform/passed_memory.h"

#include <gtest/gtest.h>
#include <string.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "kernel/memory.h"

namespace caisson::kernel {
namespace {

// A slot, and this process in the place of a guest's.
struct PassedMemoryTest : testing::Test {
  PassedMemoryTest() : memory(std::make_unique<char[]>(STUB_SLOT_SIZE)), slot(new (memory.get()) StubSlot) {
    memset(memory.get(), 0, STUB_SLOT_SIZE);
  }
  char* room() { return memory.get() + STUB_ROOM_OFFSET; }
  static uint64_t at(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }
  void pass_in(const char* from, uint32_t size) {
    slot->passed.in[slot->passed.count++] = {at(from), size, 0};
    memcpy(room(), from, size);
  }
  // As the stub does it.
  void take_back() {
    const StubPiece back = passed.give_back();
    if (back.size != 0) memcpy(reinterpret_cast<void*>(back.address), room() + back.at, back.size);
  }
  std::unique_ptr<char[]> memory;
  StubSlot* slot;
  PassedMemory passed;
  char guest[256] = "the guest's own";
  char found[256] = {};
};

TEST_F(PassedMemoryTest, WhatWasPassedIsReadFromTheRoom) {
  pass_in(guest, 16);
  memcpy(room(), "copy", 4);
  passed.take(slot, getpid());
  ASSERT_TRUE(read_guest(getpid(), at(guest), found, 16));
  EXPECT_STREQ(found, "copyguest's own");
  // Not all of it is there; another process.
  ASSERT_TRUE(read_guest(getpid(), at(guest), found, 17));
  EXPECT_STREQ(found, "the guest's own");
  EXPECT_EQ(PassedMemory::of(getpid() + 1), nullptr);
  passed.give_back();
  ASSERT_TRUE(read_guest(getpid(), at(guest), found, 16));
  EXPECT_STREQ(found, "the guest's own");
}

TEST_F(PassedMemoryTest, TheFrontOfWhatIsAskedForIsReadAsFarAsItWasPassed) {
  pass_in(guest, 9);
  memcpy(room(), "TH", 2);
  passed.take(slot, getpid());
  EXPECT_EQ(passed.read_front(at(guest), found, sizeof found), 9U);
  EXPECT_STREQ(found, "THe guest");
  EXPECT_EQ(passed.read_front(at(guest) + 7, found, sizeof found), 2U);
  EXPECT_EQ(passed.read_front(at(guest) + 9, found, sizeof found), 0U);
  EXPECT_EQ(passed.read_front(at(guest) - 1, found, sizeof found), 0U);
  EXPECT_EQ(passed.read_front(at(guest), found, 3), 3U);
}

TEST_F(PassedMemoryTest, WritesComeBackAsOnePiece) {
  slot->passed.out = {at(guest), 100, 64};
  passed.take(slot, getpid());
  ASSERT_TRUE(write_guest(getpid(), at(guest) + 4, "GUEST", 5));
  ASSERT_TRUE(write_guest(getpid(), at(guest) + 9, "-X", 2));
  EXPECT_STREQ(guest, "the guest's own");
  take_back();
  EXPECT_STREQ(guest, "the GUEST-X own");
}

TEST_F(PassedMemoryTest, WhatIsReadAgainIsWhatWasWritten) {
  pass_in(guest, 16);
  slot->passed.out = {at(guest), 16, 64};
  passed.take(slot, getpid());
  ASSERT_TRUE(write_guest(getpid(), at(guest), "new", 3));
  ASSERT_TRUE(read_guest(getpid(), at(guest), found, 16));
  EXPECT_STREQ(found, "new guest's own");
  // Apart from the first, and beyond the room: in the order in which they were made.
  ASSERT_TRUE(write_guest(getpid(), at(guest), "a", 1));
  ASSERT_TRUE(write_guest(getpid(), at(guest) + 10, "b", 1));
  ASSERT_TRUE(write_guest(getpid(), at(guest) + 9, "0123456789", 10));
  take_back();
  EXPECT_EQ(std::string(guest, 19), "aew guest0123456789");
}

TEST_F(PassedMemoryTest, NonsenseIsNotBelieved) {
  for (const StubPiece& piece : {StubPiece{at(guest), 0x2000, 0}, StubPiece{at(guest), 16, 0x1000}, StubPiece{at(guest), 0xffffffff, 8},
                                 StubPiece{~0ULL - 8, 16, 0}}) {
    slot->passed.count = 1;
    slot->passed.in[0] = slot->passed.out = piece;
    passed.take(slot, getpid());
    EXPECT_EQ(PassedMemory::of(getpid()) != nullptr && PassedMemory::of(getpid())->read(piece.address, found, 1), false);
    EXPECT_EQ(PassedMemory::of(getpid()) != nullptr && PassedMemory::of(getpid())->write(piece.address, found, 1), false);
    passed.give_back();
  }
  slot->passed.count = 1000;
  passed.take(slot, getpid());
  ASSERT_TRUE(read_guest(getpid(), at(guest), found, 16));
  EXPECT_STREQ(found, "the guest's own");
  EXPECT_EQ(passed.give_back().size, 0U);
}

}  // namespace
}  // namespace caisson::kernel
