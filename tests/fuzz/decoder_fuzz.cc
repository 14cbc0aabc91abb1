// libFuzzer target: the decoder of instructions and what is made of it, for bytes around a call of a hostile guest's. Beyond not crashing:
// a length is never more than what is there, what lies behind an instruction does not change it, and a call that becomes a jump has the
// bytes for it.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>

#include "kernel/patch/call_form.h"
#include "kernel/patch/instruction.h"

using namespace caisson::kernel;  // NOLINT

namespace {

void expect(bool condition) {
  if (!condition) abort();
}

// In memory of exactly that size: a sanitizer sees every step beyond.
std::optional<ZydisDecodedInstruction> decode(std::span<const uint8_t> code) {
  const auto bytes = std::make_unique<uint8_t[]>(code.size());
  if (!code.empty()) memcpy(bytes.get(), code.data(), code.size());
  return decode_instruction({bytes.get(), code.size()});
}

void check_instruction(std::span<const uint8_t> code) {
  const std::optional<ZydisDecodedInstruction> found = decode(code);
  if (!found) return;
  expect(found->length >= 1 && found->length <= 15 && found->length <= code.size());
  const std::optional<ZydisDecodedInstruction> alone = decode(code.first(found->length));
  expect(alone && alone->length == found->length && alone->attributes == found->attributes && alone->opcode == found->opcode);
  expect(!decode(code.first(found->length - 1U)));
}

void check_form(std::span<const uint8_t> code, size_t call, uint64_t number) {
  const std::optional<CallForm> form = recognise_call(code, call, number);
  if (!form) return;
  expect(code[call] == 0x0f && code[call + 1] == 0x05 && form->replaced() >= kJumpLength);
  if (form->kind == CallForm::Move) {
    uint32_t value;
    expect((form->before == 5 || form->before == 7) && form->before <= call && form->behind == 0);
    memcpy(&value, &code[call - 4], sizeof value);
    expect(value == number);
    return;
  }
  expect(form->before == 0 && form->behind >= kJumpLength - kCallLength && call + kCallLength + form->behind <= code.size());
  const std::optional<ZydisDecodedInstruction> next = decode(code.subspan(call + kCallLength));
  expect(next && next->length == form->behind && (next->attributes & ZYDIS_ATTRIB_IS_RELATIVE) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> all(data, size < 128 ? size : 128);
  for (size_t at = 0; at < all.size(); ++at) check_instruction(all.subspan(at));
  // Every place of a call, with the number that the bytes before it say, if they do.
  for (size_t call = 0; call < all.size(); ++call) {
    uint32_t number = 39;
    if (call >= 4) memcpy(&number, &all[call - 4], sizeof number);
    check_form(all, call, number);
    check_form(all, call, 39);
  }
  return 0;
}
