// SeccompProgram: a guest's seccomp filter: classic BPF, verified as Linux does (net/core/filter.c, kernel/seccomp.c) and interpreted here.
// Pure: knows no tasks.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernel/errno.h"

namespace caisson::kernel {

class SeccompProgram {
 public:
  // EINVAL for what Linux refuses: no instructions or more than BPF_MAXINSNS, an instruction that seccomp does not have, a jump out of the
  // program, a load beyond struct seccomp_data, memory read before it is written, no return at the end.
  static Result<SeccompProgram> verify(std::span<const sock_filter> instructions);

  // The answer: SECCOMP_RET_* with its data.
  uint32_t run(const seccomp_data& data) const;
  // The answer if it depends on nothing but the architecture and the number.
  std::optional<uint32_t> constant_answer(uint32_t arch, int number) const;
  // It asks where the call is made (instruction_pointer).
  bool looks_at_place() const;
  size_t size() const { return code_.size(); }

 private:
  explicit SeccompProgram(std::vector<sock_filter> code) : code_(std::move(code)) {}
  template <typename Load>
  std::optional<uint32_t> interpret(Load&& load) const;
  std::vector<sock_filter> code_;
};

}  // namespace caisson::kernel
