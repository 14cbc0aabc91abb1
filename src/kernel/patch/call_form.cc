#include "kernel/patch/call_form.h"

#include <string.h>

#include <algorithm>

#include "kernel/patch/instruction.h"

namespace caisson::kernel {
namespace {

constexpr size_t kLongestInstruction = 15;

// The bytes before the call are `move`, as far as bytes can tell; its immediate is what rax holds.
bool ends_with_move(std::span<const uint8_t> code, size_t call, size_t length, uint64_t number) {
  static constexpr uint8_t kShort[] = {0xb8}, kLong[] = {0x48, 0xc7, 0xc0};
  const std::span<const uint8_t> opcode = length == 5 ? std::span<const uint8_t>(kShort) : std::span<const uint8_t>(kLong);
  if (call < length || memcmp(&code[call - length], opcode.data(), opcode.size()) != 0) return false;
  uint32_t value;
  memcpy(&value, &code[call - sizeof value], sizeof value);
  return value == number && value < 0x1000;
}

// A byte that would make the move behind it another instruction.
bool may_be_prefix(uint8_t byte) {
  return (byte & 0xf0) == 0x40 || byte == 0x66 || byte == 0x67 || byte == 0xf0 || byte == 0xf2 || byte == 0xf3 || byte == 0x0f;
}

// Instructions are of at most 15 bytes, so one of those that run up to the call begins at one of any 15 bytes in a row: if every way to
// read the bytes from there on that arrives at the call passes `at`, then an instruction begins at `at`. Not counted are ways over
// `add %al, (%rax)`, which is what zeros read as, in the long nops between functions: no program adds a pointer's low byte to its target;
// nor ways over instructions that Zydis does not know (newer ones): of such a one the last bytes would have to be a whole `mov`.
bool surely_begins(std::span<const uint8_t> code, size_t at, size_t call) {
  constexpr size_t kFrom = 2 * kLongestInstruction + 1, kTo = kLongestInstruction + 1;
  if (call < kFrom || may_be_prefix(code[at - 1])) return false;
  int ways = 0;
  for (size_t begin = call - kFrom; begin <= call - kTo; ++begin) {
    size_t here = begin;
    bool passed = false;
    while (here < call) {
      passed |= here == at;
      const std::optional<ZydisDecodedInstruction> next = decode_instruction(code.subspan(here));
      if (!next || (code[here] == 0 && code[here + 1] == 0)) break;
      here += next->length;
    }
    if (here != call) continue;
    if (!passed) return false;
    ++ways;
  }
  return ways > 0;
}

// Lock, repeat and address size.
bool is_odd_prefix(uint8_t byte) { return byte == 0xf0 || byte == 0xf2 || byte == 0xf3 || byte == 0x67; }

// Does the same wherever it lies, and goes on with what is behind it.
bool can_move(const ZydisDecodedInstruction& next) {
  const auto* const prefixes = next.raw.prefixes;
  if (next.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || (next.attributes & ZYDIS_ATTRIB_IS_RELATIVE) != 0 ||
      std::any_of(prefixes, prefixes + next.raw.prefix_count, [](const auto& prefix) { return is_odd_prefix(prefix.value); }))
    return false;
  const uint8_t op = next.opcode;
  if (next.opcode_map == ZYDIS_OPCODE_MAP_0F)
    return (op & 0xf0) == 0x40 || op == 0xb6 || op == 0xb7 || op == 0xbe || op == 0xbf;  // cmov, movzx, movsx
  if (next.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT) return false;
  if (op < 0x40) return true;  // add, or, adc, sbb, and, sub, xor, cmp
  switch (op) {
    case 0x63:  // movsxd
    case 0x81:
    case 0x83:
    case 0x84:
    case 0x85:
    case 0x88:
    case 0x89:
    case 0x8a:
    case 0x8b:
    case 0x8d:
    case 0xa9:
    case 0xc1:
    case 0xc7:
    case 0xf7:
      return true;
    default:
      return op >= 0xb8 && op <= 0xbf;
  }
}

}  // namespace

std::optional<CallForm> recognise_call(std::span<const uint8_t> code, size_t call, uint64_t number) {
  if (call + kCallLength > code.size() || code[call] != 0x0f || code[call + 1] != 0x05) return std::nullopt;
  for (const size_t length : {size_t{5}, size_t{7}})
    if (ends_with_move(code, call, length, number) && surely_begins(code, call - length, call))
      return CallForm{CallForm::Move, static_cast<uint8_t>(length), 0};
  const std::optional<ZydisDecodedInstruction> next = decode_instruction(code.subspan(call + kCallLength));
  if (!next || next->length < kJumpLength - kCallLength || !can_move(*next)) return std::nullopt;
  return CallForm{CallForm::Next, 0, next->length};
}

}  // namespace caisson::kernel
