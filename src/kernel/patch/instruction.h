// Lengths of x86-64 instructions, and what a moved copy of one must not be. Small on purpose: it reads bytes that a hostile guest chose.
// Why no library: Debian's Zydis is a shared one, our programs are static; its static Capstone (4.0.2) is 4.8 MB of program and 1.0 MB of
// private memory once used, and reads 36 places of the C library's text wrongly. So this is held to Zydis by instruction_zydis_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace caisson::kernel {

struct Instruction {
  uint8_t length = 0;  // bytes, prefixes included
  uint8_t map = 0;     // 0: one-byte opcodes, 1: 0f, 2: 0f 38, 3: 0f 3a; VEX and EVEX have their own maps, see `vector`
  uint8_t opcode = 0;  // its last byte
  uint8_t modrm = 0;   // where has_modrm
  bool has_modrm = false;
  bool vector = false;           // VEX or EVEX
  bool rip_relative = false;     // its address is counted from the next instruction
  bool branch_relative = false;  // so is its target
  bool odd_prefix = false;       // lock, repeat or address size
};

// The instruction at the front of `code` (the "Opcode Map" tables of Intel's manual, volume 2D). Takes what some processors refuse rather
// than refusing what some take; nothing where it is no instruction of 64-bit mode, or longer than `code` or 15 bytes.
std::optional<Instruction> decode_instruction(std::span<const uint8_t> code);

}  // namespace caisson::kernel
