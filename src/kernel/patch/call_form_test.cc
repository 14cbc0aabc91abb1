#include "kernel/patch/call_form.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kernel/patch/instruction.h"

namespace caisson::kernel {
namespace {

using Bytes = std::vector<uint8_t>;

struct Row {
  const char* name;
  Bytes code;  // before it: a function's nops
  size_t call;
  uint64_t number;
  int before, behind;  // -1: refused; before 0: Next
};

// 64 bytes of nops that instructions begin in anywhere.
std::optional<CallForm> recognise(const Row& row) {
  Bytes code(64, 0x90);
  code.insert(code.end(), row.code.begin(), row.code.end());
  code.insert(code.end(), 16, 0x90);
  return recognise_call(code, 64 + row.call, row.number);
}

TEST(CallForm, Table) {
  const Row rows[] = {
      {"mov, syscall, ret", {0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0xc3}, 5, 110, 5, 0},
      {"mov, syscall, cmp: the move is enough", {0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0x48, 0x3d, 1, 0xf0, 0xff, 0xff}, 5, 1, 5, 0},
      {"mov to rax", {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05, 0xc3}, 7, 15, 7, 0},
      {"another number in rax: somebody else's move", {0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0xc3}, 5, 39, -1, 0},
      {"mov to r8d, and the number happens to be the same", {0x41, 0xb8, 8, 0, 0, 0, 0x0f, 0x05, 0xc3}, 6, 8, -1, 0},
      {"mov to r8d, cmp behind", {0x41, 0xb8, 8, 0, 0, 0, 0x0f, 0x05, 0x48, 0x3d, 1, 0xf0, 0xff, 0xff}, 6, 8, 0, 6},
      {"the end of a store's displacement and immediate", {0xc7, 0x45, 0xb8, 0x27, 0, 0, 0, 0x0f, 0x05, 0xc3}, 7, 39, -1, 0},
      {"the end of a 64-bit immediate", {0x48, 0xbb, 1, 2, 3, 0xb8, 0x27, 0, 0, 0, 0x0f, 0x05, 0xc3}, 10, 39, -1, 0},
      {"after the long nops between functions",
       {0xc3, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x40, 0, 0xb8, 0x66, 0, 0, 0, 0x0f, 0x05, 0xc3},
       20,
       102,
       5,
       0},
      {"after what reads otherwise only by opcodes that no processor has",
       {0x48, 0x89, 0x05, 0x31, 0x7b, 0xc9, 0, 0xb0, 0x01, 0x84, 0xc0, 0x0f, 0x85,
        0x19, 0xff, 0xff, 0xff, 0xb8, 3,    0, 0,    0,    0x0f, 0x05, 0xc3},
       22,
       3,
       5,
       0},
      {"Go: number elsewhere, cmp behind", {0x48, 0x89, 0xdf, 0x0f, 0x05, 0x48, 0x3d, 1, 0xf0, 0xff, 0xff}, 3, 7, 0, 6},
      {"musl: mov behind", {0x0f, 0x05, 0x48, 0x89, 0xc7}, 0, 7, 0, 3},
      {"lea behind", {0x0f, 0x05, 0x48, 0x8d, 0x40, 0}, 0, 7, 0, 4},
      {"lea of what lies near", {0x0f, 0x05, 0x48, 0x8d, 0x15, 0, 0, 0, 0}, 0, 7, -1, 0},
      {"two bytes behind", {0x0f, 0x05, 0x89, 0xc2, 0x48, 0x8b, 0}, 0, 7, -1, 0},
      {"ret behind", {0x0f, 0x05, 0xc3}, 0, 7, -1, 0},
      {"jump behind", {0x0f, 0x05, 0xe9, 0, 0, 0, 0}, 0, 7, -1, 0},
      {"call behind", {0x0f, 0x05, 0xe8, 0, 0, 0, 0}, 0, 7, -1, 0},
      {"call through a register's memory behind", {0x0f, 0x05, 0xff, 0x50, 0x10}, 0, 7, -1, 0},
      {"conditional jump behind", {0x0f, 0x05, 0x0f, 0x84, 0, 0, 0, 0}, 0, 7, -1, 0},
      {"lock behind: its prefix may be jumped over", {0x0f, 0x05, 0xf0, 0x48, 0xff, 0x00}, 0, 7, -1, 0},
      {"rep behind", {0x0f, 0x05, 0xf3, 0x48, 0xa5}, 0, 7, -1, 0},
      {"another call behind", {0x0f, 0x05, 0x0f, 0x05, 0x90}, 0, 7, -1, 0},
      {"vectors behind", {0x0f, 0x05, 0xc5, 0xf8, 0x57, 0xc0}, 0, 7, -1, 0},
      {"a transaction behind, whose way out is counted from it", {0x0f, 0x05, 0xc7, 0xf8, 0, 0, 0, 0}, 0, 7, -1, 0},
      {"no instruction behind", {0x0f, 0x05, 0x06, 0x06, 0x06}, 0, 7, -1, 0},
      {"no call", {0x0f, 0x06, 0x48, 0x89, 0xc7}, 0, 7, -1, 0},
      {"sysenter", {0xb8, 1, 0, 0, 0, 0x0f, 0x34, 0xc3}, 5, 1, -1, 0},
  };
  for (const Row& row : rows) {
    const std::optional<CallForm> form = recognise(row);
    ASSERT_EQ(form.has_value(), row.before >= 0) << row.name;
    if (!form) continue;
    EXPECT_EQ(form->before, row.before) << row.name;
    EXPECT_EQ(form->behind, row.behind) << row.name;
    EXPECT_EQ(form->kind, row.before > 0 ? CallForm::Move : CallForm::Next) << row.name;
  }
}

TEST(CallForm, NeedsTheBytesBefore) {
  const Bytes code = {0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0xc3, 0x90, 0x90};
  EXPECT_FALSE(recognise_call(code, 5, 110));
  EXPECT_FALSE(recognise_call(Bytes{0x0f, 0x05}, 0, 110));
  EXPECT_FALSE(recognise_call(Bytes{0x0f}, 0, 110));
}

TEST(Instruction, Lengths) {
  const std::pair<Bytes, int> rows[] = {
      {{0x90}, 1},
      {{0x48, 0x89, 0xe5}, 3},
      {{0xb8, 1, 2, 3, 4}, 5},
      {{0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}, 10},
      {{0x66, 0xb8, 1, 2}, 4},
      {{0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}, 10},
      {{0x8b, 0x04, 0x25, 1, 2, 3, 4}, 7},
      {{0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0}, 9},
      {{0xf6, 0x00, 0x01}, 3},
      {{0xf6, 0x10}, 2},
      {{0xf7, 0xc0, 1, 2, 3, 4}, 6},
      {{0x66, 0xf7, 0xc0, 1, 2}, 5},
      {{0xc8, 1, 2, 3}, 4},
      {{0xa1, 1, 2, 3, 4, 5, 6, 7, 8}, 9},
      {{0x67, 0xa1, 1, 2, 3, 4}, 6},
      {{0x0f, 0x84, 1, 2, 3, 4}, 6},
      {{0x66, 0x0f, 0x3a, 0x0f, 0xc1, 0x04}, 6},
      {{0x66, 0x0f, 0x38, 0x00, 0xc1}, 5},
      {{0xc5, 0xf8, 0x77}, 3},
      {{0xc4, 0xe3, 0x7d, 0x39, 0xc1, 0x01}, 6},
      {{0x62, 0xf1, 0x7c, 0x48, 0x10, 0x07}, 6},
      {{0xf3, 0x0f, 0x1e, 0xfa}, 4},
      {{0x8f, 0xe9, 0x78, 0x12, 0xc0}, 5},  // XOP, not pop
      {{0x8f, 0xc0}, 2},                    // pop
      {{0x0f, 0x20, 0x50}, 3},              // mov %cr2, %rax, whatever `mod` says
      {{0x66, 0xc7, 0xf8, 1, 2}, 5},        // xbegin
      {{0xf2, 0x0f, 0x78, 0xc0, 1, 2}, 6},  // insertq
      {{0x06}, 0},
      {{0x48}, 0},
      {{0x0f}, 0},
      {{0x8b, 0x04}, 0},
      {{}, 0},
      {Bytes(16, 0x66), 0},
  };
  for (const auto& [code, length] : rows) {
    const std::optional<ZydisDecodedInstruction> found = decode_instruction(code);
    EXPECT_EQ(found ? found->length : 0, length) << testing::PrintToString(code);
  }
}

TEST(Instruction, NeverReadsBehindItsBytes) {
  // Under asan: every pair of bytes in front, and as little behind as can be.
  for (int first = 0; first < 256; ++first)
    for (int second = 0; second < 256; ++second)
      for (size_t size = 1; size <= 15; ++size) {
        Bytes code(size, 0x44);
        code[0] = static_cast<uint8_t>(first);
        if (size > 1) code[1] = static_cast<uint8_t>(second);
        const std::optional<ZydisDecodedInstruction> found = decode_instruction(code);
        ASSERT_LE(found ? found->length : 0, size);
      }
}

}  // namespace
}  // namespace caisson::kernel
