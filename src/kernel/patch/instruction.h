// x86-64 instructions, as Zydis decodes them.
#pragma once

#include <Zydis/Decoder.h>

#include <cstdint>
#include <optional>
#include <span>

namespace caisson::kernel {

// The instruction at the front of `code`, bytes that a hostile guest chose; `length` has its prefixes included. Nothing where it is none of
// 64-bit mode that Zydis knows, or is longer than `code` or 15 bytes.
std::optional<ZydisDecodedInstruction> decode_instruction(std::span<const uint8_t> code);

}  // namespace caisson::kernel
