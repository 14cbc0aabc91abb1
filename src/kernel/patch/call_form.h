// Which `syscall` instructions can become jumps, and how. A jump needs five bytes, and a `syscall` has two. The forms:
//   Move   `mov $number, %eax` (5 bytes) or `mov $number, %rax` (7) right before the call: the move alone becomes the jump. One instruction
//          for one instruction: whoever jumps to the call itself finds it in its place. Wrappers of C libraries, Go's runtime.
//   Next   the call and an instruction of three bytes or more behind it, which can run elsewhere: both become the jump; the second byte of
//          its displacement, where the instruction behind the call began, is `int3`, so that who returns there from a frame made earlier,
//          or jumps there, is sent on by the kernel. Wrappers that get the number as an argument (syscall(3), Go's Syscall6).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace caisson::kernel {

inline constexpr size_t kJumpLength = 5;
inline constexpr size_t kCallLength = 2;
inline constexpr uint8_t kBreakpoint = 0xcc;

struct CallForm {
  enum Kind : uint8_t { Move, Next } kind = Move;
  uint8_t before = 0;  // how many bytes before the call the replaced ones begin: the move's length, or 0
  uint8_t behind = 0;  // Next: the length of the instruction behind the call
  size_t replaced() const { return before != 0 ? before : kJumpLength; }
};

// So many bytes around a call are looked at.
inline constexpr size_t kBytesBefore = 48, kBytesBehind = 16;

// code[call] and code[call + 1] are the `syscall` instruction, which has been executed with `number` in rax. Nothing: leave it alone.
std::optional<CallForm> recognise_call(std::span<const uint8_t> code, size_t call, uint64_t number);

}  // namespace caisson::kernel
