#include "kernel/seccomp/program.h"

#include <string.h>

#include <algorithm>
#include <array>

namespace caisson::kernel {
namespace {

constexpr uint32_t kLoadWord = BPF_LD | BPF_W | BPF_ABS;

bool is_conditional(uint16_t code) { return BPF_CLASS(code) == BPF_JMP && BPF_OP(code) != BPF_JA; }

// The instructions that seccomp has: fewer than sockets' filters (seccomp_check_filter).
bool is_known(uint16_t code) {
  switch (code) {
    case kLoadWord:
    case BPF_LD | BPF_W | BPF_LEN:
    case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_LD | BPF_IMM:
    case BPF_LDX | BPF_IMM:
    case BPF_LD | BPF_MEM:
    case BPF_LDX | BPF_MEM:
    case BPF_ST:
    case BPF_STX:
    case BPF_MISC | BPF_TAX:
    case BPF_MISC | BPF_TXA:
    case BPF_RET | BPF_K:
    case BPF_RET | BPF_A:
    case BPF_ALU | BPF_NEG:
    case BPF_JMP | BPF_JA:
      return true;
  }
  for (const uint16_t source : {BPF_K, BPF_X}) {
    for (const uint16_t operation : {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_AND, BPF_OR, BPF_XOR, BPF_LSH, BPF_RSH})
      if (code == (BPF_ALU | operation | source)) return true;
    for (const uint16_t operation : {BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JSET})
      if (code == (BPF_JMP | operation | source)) return true;
  }
  return false;
}

bool uses_memory(uint16_t code) { return code == (BPF_LD | BPF_MEM) || code == (BPF_LDX | BPF_MEM) || code == BPF_ST || code == BPF_STX; }

// What one instruction says is within bounds. `after`: how many instructions follow it.
bool is_valid(const sock_filter& instruction, size_t after) {
  const uint16_t code = instruction.code;
  if (!is_known(code)) return false;
  if (code == kLoadWord) return instruction.k < sizeof(seccomp_data) && instruction.k % 4 == 0;
  if (code == (BPF_ALU | BPF_DIV | BPF_K)) return instruction.k != 0;
  if (code == (BPF_ALU | BPF_LSH | BPF_K) || code == (BPF_ALU | BPF_RSH | BPF_K)) return instruction.k < 32;
  if (uses_memory(code)) return instruction.k < BPF_MEMWORDS;
  if (code == (BPF_JMP | BPF_JA)) return instruction.k < after;
  if (is_conditional(code)) return instruction.jt < after && instruction.jf < after;
  return true;
}

// No word of the scratch memory is read on a path that has not written it (check_load_and_stores). Jumps go forwards only.
bool memory_is_written_first(std::span<const sock_filter> code) {
  std::vector<uint16_t> at_target(code.size(), 0xffff);
  uint16_t written = 0;
  for (size_t i = 0; i < code.size(); ++i) {
    const sock_filter& instruction = code[i];
    written &= at_target[i];
    const auto bit = static_cast<uint16_t>(uses_memory(instruction.code) ? 1U << instruction.k : 0);
    if (instruction.code == BPF_ST || instruction.code == BPF_STX) {
      written |= bit;
    } else if (bit != 0 && (written & bit) == 0) {
      return false;
    } else if (instruction.code == (BPF_JMP | BPF_JA)) {
      at_target[i + 1 + instruction.k] &= written;
      written = 0xffff;
    } else if (is_conditional(instruction.code)) {
      at_target[i + 1 + instruction.jt] &= written;
      at_target[i + 1 + instruction.jf] &= written;
      written = 0xffff;
    }
  }
  return true;
}

// nullopt: a division by zero, which ends the program with 0 (SECCOMP_RET_KILL_THREAD).
std::optional<uint32_t> compute(uint16_t operation, uint32_t a, uint32_t b) {
  switch (operation) {
    case BPF_ADD:
      return a + b;
    case BPF_SUB:
      return a - b;
    case BPF_MUL:
      return a * b;
    case BPF_DIV:
      if (b == 0) return std::nullopt;
      return a / b;
    case BPF_AND:
      return a & b;
    case BPF_OR:
      return a | b;
    case BPF_XOR:
      return a ^ b;
    case BPF_LSH:
      return a << (b & 31);
    case BPF_RSH:
      return a >> (b & 31);
    default:  // BPF_NEG
      return 0 - a;
  }
}

bool holds(uint16_t comparison, uint32_t a, uint32_t b) {
  switch (comparison) {
    case BPF_JEQ:
      return a == b;
    case BPF_JGT:
      return a > b;
    case BPF_JGE:
      return a >= b;
    default:  // BPF_JSET
      return (a & b) != 0;
  }
}

}  // namespace

Result<SeccompProgram> SeccompProgram::verify(std::span<const sock_filter> code) {
  if (code.empty() || code.size() > BPF_MAXINSNS) return Errno(EINVAL);
  for (size_t i = 0; i < code.size(); ++i)
    if (!is_valid(code[i], code.size() - i - 1)) return Errno(EINVAL);
  if (BPF_CLASS(code.back().code) != BPF_RET) return Errno(EINVAL);
  if (!memory_is_written_first(code)) return Errno(EINVAL);
  return SeccompProgram({code.begin(), code.end()});
}

// load(offset) gives a word of the data, or nothing: then there is no answer. Every path ends: jumps go forwards, the last instruction
// returns.
template <typename Load>
std::optional<uint32_t> SeccompProgram::interpret(Load&& load) const {
  uint32_t a = 0, x = 0;
  std::array<uint32_t, BPF_MEMWORDS> memory{};
  for (size_t i = 0; i < code_.size(); ++i) {
    const sock_filter& instruction = code_[i];
    const uint32_t k = instruction.k, operand = BPF_SRC(instruction.code) == BPF_X ? x : k;
    switch (BPF_CLASS(instruction.code)) {
      case BPF_LD:
      case BPF_LDX: {
        uint32_t value = k;
        if (BPF_MODE(instruction.code) == BPF_LEN) {
          value = sizeof(seccomp_data);
        } else if (BPF_MODE(instruction.code) == BPF_MEM) {
          value = memory[k];
        } else if (BPF_MODE(instruction.code) == BPF_ABS) {
          const std::optional<uint32_t> word = load(k);
          if (!word) return std::nullopt;
          value = *word;
        }
        (BPF_CLASS(instruction.code) == BPF_LD ? a : x) = value;
        break;
      }
      case BPF_ST:
        memory[k] = a;
        break;
      case BPF_STX:
        memory[k] = x;
        break;
      case BPF_ALU: {
        const std::optional<uint32_t> value = compute(BPF_OP(instruction.code), a, operand);
        if (!value) return SECCOMP_RET_KILL_THREAD;
        a = *value;
        break;
      }
      case BPF_JMP:
        if (BPF_OP(instruction.code) == BPF_JA)
          i += k;
        else
          i += holds(BPF_OP(instruction.code), a, operand) ? instruction.jt : instruction.jf;
        break;
      case BPF_RET:
        return BPF_RVAL(instruction.code) == BPF_A ? a : k;
      default:  // BPF_MISC
        if (BPF_MISCOP(instruction.code) == BPF_TAX)
          x = a;
        else
          a = x;
    }
  }
  return SECCOMP_RET_KILL_PROCESS;  // not reached: verify()
}

uint32_t SeccompProgram::run(const seccomp_data& data) const {
  return *interpret([&](uint32_t offset) -> std::optional<uint32_t> {
    uint32_t word;
    memcpy(&word, reinterpret_cast<const char*>(&data) + offset, sizeof word);
    return word;
  });
}

bool SeccompProgram::looks_at_place() const {
  constexpr uint32_t kPlace = offsetof(seccomp_data, instruction_pointer);
  return std::any_of(code_.begin(), code_.end(),
                     [](const sock_filter& each) { return each.code == kLoadWord && each.k >= kPlace && each.k < kPlace + 8; });
}

std::optional<uint32_t> SeccompProgram::constant_answer(uint32_t arch, int number) const {
  return interpret([&](uint32_t offset) -> std::optional<uint32_t> {
    if (offset == offsetof(seccomp_data, nr)) return static_cast<uint32_t>(number);
    if (offset == offsetof(seccomp_data, arch)) return arch;
    return std::nullopt;
  });
}

}  // namespace caisson::kernel
