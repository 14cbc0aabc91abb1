// bpf(2), for which the C library has no function, and the words of its programs (bpf-helpers(7)).
#pragma once

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace caisson::host {

// As bpf(2): a descriptor or 0, else -1 and errno.
inline long bpf(bpf_cmd command, bpf_attr& attributes) { return syscall(SYS_bpf, command, &attributes, sizeof attributes); }

// What the attributes have in place of pointers.
template <typename T>
uint64_t bpf_pointer(const T* data) {
  return reinterpret_cast<uint64_t>(data);
}

constexpr bpf_insn bpf_instruction(int code, int to, int from, int offset, int value) {
  return {.code = static_cast<uint8_t>(code),
          .dst_reg = static_cast<uint8_t>(to & 0xf),
          .src_reg = static_cast<uint8_t>(from & 0xf),
          .off = static_cast<int16_t>(offset),
          .imm = value};
}

}  // namespace caisson::host
