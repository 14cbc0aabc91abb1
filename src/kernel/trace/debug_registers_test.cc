#include "kernel/trace/debug_registers.h"

#include <gtest/gtest.h>
#include <string.h>

namespace caisson::kernel {
namespace {

struct Memory {
  uint64_t words[2] = {1, 2};
  DebugRegisters::Read read = [this](uint64_t address, uint64_t& word, size_t size) {
    if (address < 0x1000 || address - 0x1000 + size > sizeof words) return false;
    memcpy(&word, reinterpret_cast<const char*>(words) + (address - 0x1000), size);
    return true;
  };
};

constexpr uint64_t write_of(size_t number, uint64_t size_bits) { return 1ULL << (2 * number) | (1 | size_bits << 2) << (16 + 4 * number); }

TEST(DebugRegisters, TellOfChangesOfWhatIsWatched) {
  Memory memory;
  DebugRegisters registers;
  EXPECT_FALSE(registers.watches());
  ASSERT_TRUE(registers.set(1, 0x1004));
  ASSERT_TRUE(registers.set(7, write_of(1, 3)));  // four bytes
  EXPECT_TRUE(registers.watches());
  registers.begin(memory.read);
  memory.words[1] = 5;
  EXPECT_FALSE(registers.end(memory.read, 0)) << "beside it";
  memory.words[0] = 1ULL << 40;
  EXPECT_TRUE(registers.end(memory.read, 0));
  EXPECT_EQ(registers.get(6) & 0xf, 2u);
  EXPECT_FALSE(registers.end(memory.read, 0)) << "told once";
  registers.forget();
  memory.words[0] = 7;
  registers.begin(memory.read);
  EXPECT_FALSE(registers.end(memory.read, 0)) << "the tracer's own change";
}

TEST(DebugRegisters, StopBeforeAnInstruction) {
  Memory memory;
  DebugRegisters registers;
  ASSERT_TRUE(registers.set(3, 0x401000));
  ASSERT_TRUE(registers.set(7, 1 << 6));
  registers.begin(memory.read);
  EXPECT_FALSE(registers.end(memory.read, 0x400fff));
  EXPECT_TRUE(registers.end(memory.read, 0x401000));
}

TEST(DebugRegisters, RefuseWhatCannotBeWatched) {
  Memory memory;
  DebugRegisters registers;
  EXPECT_EQ(registers.set(0, 1ULL << 47).error(), Errno(EINVAL));
  EXPECT_EQ(registers.set(4, 1).error(), Errno(EIO));
  EXPECT_EQ(registers.set(5, 1).error(), Errno(EIO));
  ASSERT_TRUE(registers.set(0, 0x1002));
  EXPECT_EQ(registers.set(7, write_of(0, 3)).error(), Errno(EINVAL)) << "not aligned";
  EXPECT_EQ(registers.set(7, 1 | 3ULL << 16).error(), Errno(EINVAL)) << "reads cannot be seen";
  EXPECT_EQ(registers.set(7, 1 | 2ULL << 16).error(), Errno(EINVAL)) << "ports";
  EXPECT_EQ(registers.get(7), 0u);
  ASSERT_TRUE(registers.set(7, write_of(0, 1)));
  EXPECT_EQ(registers.set(0, 0x1001).error(), Errno(EINVAL));
  EXPECT_EQ(registers.get(0), 0x1002u);
  // What is not mapped never changes.
  ASSERT_TRUE(registers.set(0, 0x5000));
  registers.begin(memory.read);
  EXPECT_FALSE(registers.end(memory.read, 0));
}

}  // namespace
}  // namespace caisson::kernel
