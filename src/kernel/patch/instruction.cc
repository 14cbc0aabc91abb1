#include "kernel/patch/instruction.h"

namespace caisson::kernel {

std::optional<ZydisDecodedInstruction> decode_instruction(std::span<const uint8_t> code) {
  ZydisDecoder decoder;
  ZydisDecodedInstruction found;
  if (!ZYAN_SUCCESS(ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)) ||
      !ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, nullptr, code.data(), code.size(), &found)))
    return std::nullopt;
  return found;
}

}  // namespace caisson::kernel
