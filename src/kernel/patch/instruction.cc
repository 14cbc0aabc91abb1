#include "kernel/patch/instruction.h"

#include <algorithm>

namespace caisson::kernel {
namespace {

constexpr size_t kLongest = 15;

// What follows an opcode.
enum Follow : uint8_t {
  kNothing = 0,
  kModRm = 1,
  kImm8 = 2,
  kImm16 = 4,
  kImmZ = 8,  // 4 bytes, 2 with an operand-size prefix
  kRel = 16,  // of the size that the others say
  kInvalid = 32,
  kImm32 = 64,
};

constexpr bool between(uint8_t value, uint8_t low, uint8_t high) { return value >= low && value <= high; }

uint8_t follow_one_byte(uint8_t op) {
  if (op < 0x40) {
    constexpr uint8_t kColumns[8] = {kModRm, kModRm, kModRm, kModRm, kImm8, kImmZ, kInvalid, kInvalid};
    return kColumns[op & 7];
  }
  if (between(op, 0x50, 0x5f)) return kNothing;
  if (between(op, 0x70, 0x7f) || between(op, 0xe0, 0xe3) || op == 0xeb) return kImm8 | kRel;
  if (between(op, 0xb0, 0xb7) || between(op, 0xe4, 0xe7)) return kImm8;
  if (between(op, 0xd8, 0xdf) || between(op, 0xd0, 0xd3) || between(op, 0x84, 0x8f)) return kModRm;
  switch (op) {
    case 0x60:
    case 0x61:
    case 0x82:
    case 0x9a:
    case 0xce:
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xea:
      return kInvalid;
    case 0x63:
    case 0xf6:
    case 0xf7:
    case 0xfe:
    case 0xff:
      return kModRm;
    case 0x68:
    case 0xa9:
      return kImmZ;
    case 0x69:
    case 0x81:
    case 0xc7:
      return kModRm | kImmZ;
    case 0x6a:
    case 0xa8:
    case 0xcd:
      return kImm8;
    case 0x6b:
    case 0x80:
    case 0x83:
    case 0xc0:
    case 0xc1:
    case 0xc6:
      return kModRm | kImm8;
    case 0xc2:
    case 0xca:
      return kImm16;
    case 0xc8:
      return kImm16 | kImm8;
    case 0xe8:
    case 0xe9:
      return kImmZ | kRel;
    default:
      return kNothing;
  }
}

// 0f; also the first map of VEX and EVEX, which has the same immediates.
uint8_t follow_two_byte(uint8_t op) {
  if (between(op, 0x80, 0x8f)) return kImmZ | kRel;
  if (between(op, 0x70, 0x73) || op == 0xa4 || op == 0xac || op == 0xba || op == 0xc2 || between(op, 0xc4, 0xc6) || op == 0x0f)
    return kModRm | kImm8;  // 0f 0f: 3DNow!, whose opcode is last
  if (between(op, 0x30, 0x35) || between(op, 0xc8, 0xcf) || between(op, 0x05, 0x09)) return kNothing;
  switch (op) {
    case 0x04:
    case 0x0a:
    case 0x0c:
    case 0x24:
    case 0x25:
    case 0x26:
    case 0x27:
    case 0x36:
    case 0x39:
    case 0x3b:
    case 0x3c:
    case 0x3d:
    case 0x3e:
    case 0x3f:
    case 0x7a:
    case 0x7b:
      return kInvalid;
    case 0x0b:
    case 0x0e:
    case 0x37:
    case 0x77:
    case 0xa0:
    case 0xa1:
    case 0xa2:
    case 0xa8:
    case 0xa9:
    case 0xaa:
      return kNothing;
    default:
      return kModRm;
  }
}

class Decoder {
 public:
  explicit Decoder(std::span<const uint8_t> code) : code_(code.first(std::min(code.size(), kLongest))) {}

  std::optional<Instruction> run() {
    if (!prefixes()) return std::nullopt;
    const std::optional<uint8_t> follow = opcode();
    if (!follow || (*follow & kInvalid) != 0 || !operands(*follow) || at_ > code_.size()) return std::nullopt;
    found_.length = static_cast<uint8_t>(at_);
    return found_;
  }

 private:
  bool more() const { return at_ < code_.size(); }

  bool prefixes() {
    for (; more(); ++at_) {
      const uint8_t byte = code_[at_];
      if ((byte & 0xf0) == 0x40) {  // counts only right before the opcode
        rex_ = byte;
        continue;
      }
      if (byte == 0x66)
        operand16_ = true;
      else if (byte == 0x67)
        address32_ = found_.odd_prefix = true;
      else if (byte == 0xf0)
        found_.odd_prefix = true;
      else if (byte == 0xf2 || byte == 0xf3)
        found_.odd_prefix = true, repeat_ = byte;
      else if (byte != 0x2e && byte != 0x36 && byte != 0x3e && byte != 0x26 && byte != 0x64 && byte != 0x65)
        return true;
      rex_ = 0;
    }
    return false;
  }

  std::optional<uint8_t> opcode() {
    const uint8_t byte = code_[at_++];
    // XOP shares its first byte with `pop`, whose ModRM byte has zeros where XOP has a map of 8 or more.
    const bool xop = byte == 0x8f && more() && (code_[at_] & 0x1f) >= 8;
    if (byte == 0xc4 || byte == 0xc5 || byte == 0x62 || xop) return vector_opcode(byte);
    if (byte != 0x0f) {
      found_.opcode = byte;
      return follow_one_byte(byte);
    }
    if (!more()) return std::nullopt;
    found_.map = 1;
    found_.opcode = code_[at_++];
    if (found_.opcode != 0x38 && found_.opcode != 0x3a) return follow_two_byte(found_.opcode);
    if (!more()) return std::nullopt;
    found_.map = found_.opcode == 0x38 ? 2 : 3;
    found_.opcode = code_[at_++];
    return found_.map == 2 ? kModRm : kModRm | kImm8;
  }

  std::optional<uint8_t> vector_opcode(uint8_t first) {
    found_.vector = true;
    const size_t payload = first == 0xc5 ? 1 : first == 0x62 ? 3 : 2;
    if (at_ + payload >= code_.size()) return std::nullopt;
    found_.map = first == 0xc5 ? 1 : code_[at_] & (first == 0x62 ? 7 : 0x1f);
    at_ += payload;
    found_.opcode = code_[at_++];
    switch (found_.map) {
      case 1:
        if (found_.opcode == 0x77) return kNothing;
        return static_cast<uint8_t>(kModRm | (follow_two_byte(found_.opcode) & kImm8));
      case 2:
      case 5:
      case 6:
        return kModRm;
      case 3:
      case 8:  // XOP
        return kModRm | kImm8;
      case 9:
        return kModRm;
      case 10:
        return kModRm | kImm32;
      default:
        return kInvalid;
    }
  }

  bool operands(uint8_t follow) {
    const bool one_byte = found_.map == 0 && !found_.vector;
    if ((follow & kModRm) != 0 && !modrm()) return false;
    if (one_byte && between(found_.opcode, 0xf6, 0xf7) && (found_.modrm & 0x30) == 0) follow |= found_.opcode == 0xf6 ? kImm8 : kImmZ;
    if (one_byte && between(found_.opcode, 0xa0, 0xa3)) at_ += address32_ ? 4 : 8;
    // AMD's extrq and insertq with two immediates, where others have vmread.
    if (found_.map == 1 && !found_.vector && found_.opcode == 0x78 && (operand16_ || repeat_ == 0xf2)) follow |= kImm16;
    const bool wide = (rex_ & 8) != 0;
    if (one_byte && between(found_.opcode, 0xb8, 0xbf)) at_ += wide ? 8 : operand16_ ? 2 : 4;
    found_.branch_relative = (follow & kRel) != 0;
    if ((follow & kImm8) != 0) at_ += 1;
    if ((follow & kImm16) != 0) at_ += 2;
    if ((follow & kImm32) != 0) at_ += 4;
    // Near branches have 32-bit displacements whatever the prefix says (on Intel's processors).
    if ((follow & kImmZ) != 0) at_ += operand16_ && !wide && !found_.branch_relative ? 2 : 4;
    found_.branch_relative |=
        one_byte && found_.opcode == 0xc7 && found_.modrm == 0xf8;  // xbegin, whose displacement has the prefix's size
    return true;
  }

  bool modrm() {
    if (!more()) return false;
    found_.modrm = code_[at_++];
    found_.has_modrm = true;
    const uint8_t mod = found_.modrm >> 6, rm = found_.modrm & 7;
    const bool control = found_.map == 1 && !found_.vector && between(found_.opcode, 0x20, 0x23);  // registers only, whatever `mod` says
    if (mod == 3 || control) return true;
    uint8_t base = rm;
    if (rm == 4) {
      if (!more()) return false;
      base = code_[at_++] & 7;
    }
    found_.rip_relative = mod == 0 && rm == 5;
    if (mod == 1)
      at_ += 1;
    else if (mod == 2 || (mod == 0 && base == 5))
      at_ += 4;
    return true;
  }

  std::span<const uint8_t> code_;
  size_t at_ = 0;
  uint8_t rex_ = 0, repeat_ = 0;
  bool operand16_ = false, address32_ = false;
  Instruction found_;
};

}  // namespace

std::optional<Instruction> decode_instruction(std::span<const uint8_t> code) { return Decoder(code).run(); }

}  // namespace caisson::kernel
