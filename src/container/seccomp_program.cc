#include "container/seccomp_program.h"

#include <linux/audit.h>
#include <linux/seccomp.h>

#include <algorithm>
#include <cstddef>
#include <set>

namespace caisson::container {
namespace {

using Program = std::vector<sock_filter>;

constexpr uint32_t kX32Bit = 0x40000000;

sock_filter load(size_t offset) { return {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<uint32_t>(offset)}; }
sock_filter answer(uint32_t value) { return {BPF_RET | BPF_K, 0, 0, value}; }
sock_filter jump(uint16_t condition, uint32_t value, size_t if_true, size_t if_false) {
  return {static_cast<uint16_t>(BPF_JMP | condition | BPF_K), static_cast<uint8_t>(if_true), static_cast<uint8_t>(if_false), value};
}

void append(Program& to, const Program& from) { to.insert(to.end(), from.begin(), from.end()); }

// Runs `then` where the condition holds, else `otherwise`; both end with an answer. Conditional jumps reach 255 instructions, the
// unconditional one as far as needed.
Program branch(uint16_t condition, uint32_t value, const Program& then, const Program& otherwise) {
  Program program;
  if (otherwise.size() <= 255) {
    program.push_back(jump(condition, value, otherwise.size(), 0));
  } else {
    program.push_back(jump(condition, value, 0, 1));
    program.push_back({BPF_JMP | BPF_JA, 0, 0, static_cast<uint32_t>(otherwise.size())});
  }
  append(program, otherwise);
  append(program, then);
  return program;
}

// seccomp_data.args is in the machine's byte order; both of ours are little-endian.
constexpr size_t low_half(uint32_t index) { return offsetof(seccomp_data, args) + index * 8; }
constexpr size_t high_half(uint32_t index) { return low_half(index) + 4; }

// One rule's checks. Jumps within a check are numbers of instructions to skip; those out of the rule are filled in when its length is
// known.
class RuleCode {
 public:
  explicit RuleCode(bool wide) : wide_(wide) {}

  void check(const SeccompCheck& check) {
    uint32_t high = static_cast<uint32_t>(check.value >> 32), low = static_cast<uint32_t>(check.value);
    switch (check.compare) {
      case SeccompCompare::Equal:
        return equal(check.index, high, low);
      case SeccompCompare::MaskedEqual:
        return masked(check);
      case SeccompCompare::NotEqual:
        return not_equal(check.index, high, low);
      case SeccompCompare::GreaterOrEqual:
        return ordered(check.index, high, low, BPF_JGE, true);
      case SeccompCompare::Greater:
        return ordered(check.index, high, low, BPF_JGT, true);
      case SeccompCompare::Less:
        return ordered(check.index, high, low, BPF_JGE, false);
      case SeccompCompare::LessOrEqual:
        return ordered(check.index, high, low, BPF_JGT, false);
    }
  }

  // The rule with its answer; what does not match goes on behind it.
  Program finish(uint32_t value) {
    code_.push_back(answer(value));
    for (size_t at : true_out_) code_[at].jt = static_cast<uint8_t>(code_.size() - at - 1);
    for (size_t at : false_out_) code_[at].jf = static_cast<uint8_t>(code_.size() - at - 1);
    return std::move(code_);
  }

 private:
  void out_if_true(uint16_t condition, uint32_t value, size_t if_false = 0) {
    true_out_.push_back(code_.size());
    code_.push_back(jump(condition, value, 0, if_false));
  }
  void out_if_false(uint16_t condition, uint32_t value, size_t if_true = 0) {
    false_out_.push_back(code_.size());
    code_.push_back(jump(condition, value, if_true, 0));
  }
  void equal(uint32_t index, uint32_t high, uint32_t low) {
    if (wide_) {
      code_.push_back(load(high_half(index)));
      out_if_false(BPF_JEQ, high);
    }
    code_.push_back(load(low_half(index)));
    out_if_false(BPF_JEQ, low);
  }
  void not_equal(uint32_t index, uint32_t high, uint32_t low) {
    if (wide_) {
      code_.push_back(load(high_half(index)));
      code_.push_back(jump(BPF_JEQ, high, 0, 2));  // differs: over the low half
    }
    code_.push_back(load(low_half(index)));
    out_if_true(BPF_JEQ, low);
  }
  // wanted: the comparison must hold, else it must not (less than is not greater or equal).
  void ordered(uint32_t index, uint32_t high, uint32_t low, uint16_t condition, bool wanted) {
    if (wide_) {
      code_.push_back(load(high_half(index)));
      if (wanted) {
        code_.push_back(jump(BPF_JGT, high, 3, 0));
        out_if_false(BPF_JEQ, high);
      } else {
        out_if_true(BPF_JGT, high);
        code_.push_back(jump(BPF_JEQ, high, 0, 2));
      }
    }
    code_.push_back(load(low_half(index)));
    if (wanted)
      out_if_false(condition, low);
    else
      out_if_true(condition, low);
  }
  void masked(const SeccompCheck& check) {
    auto half = [&](size_t offset, uint32_t mask, uint32_t value) {
      code_.push_back(load(offset));
      code_.push_back({BPF_ALU | BPF_AND | BPF_K, 0, 0, mask});
      out_if_false(BPF_JEQ, value);
    };
    if (wide_) half(high_half(check.index), static_cast<uint32_t>(check.value >> 32), static_cast<uint32_t>(check.value_two >> 32));
    half(low_half(check.index), static_cast<uint32_t>(check.value), static_cast<uint32_t>(check.value_two));
  }

  bool wide_;
  Program code_;
  std::vector<size_t> true_out_, false_out_;
};

Program call_code(const std::vector<SeccompRule>& rules, bool wide, uint32_t otherwise) {
  auto plain = std::find_if(rules.begin(), rules.end(), [](const SeccompRule& rule) { return rule.checks.empty(); });
  if (plain != rules.end()) return {answer(plain->answer)};
  Program program;
  for (const SeccompRule& rule : rules) {
    RuleCode code(wide);
    for (const SeccompCheck& check : rule.checks) code.check(check);
    append(program, code.finish(rule.answer));
  }
  program.push_back(answer(otherwise));
  return program;
}

// Numbers from `first` up to the next range's first have this code.
struct Range {
  uint32_t first;
  Program code;
};

bool same_answer(const Program& a, const Program& b) { return a.size() == 1 && b.size() == 1 && a[0].k == b[0].k; }

std::vector<Range> ranges_of(const SeccompArchitecture& architecture, uint32_t otherwise, uint32_t unknown) {
  std::vector<Range> ranges;
  auto add = [&](uint32_t first, Program code) {
    if (ranges.empty() || !same_answer(ranges.back().code, code)) ranges.push_back({first, std::move(code)});
  };
  uint32_t next = architecture.x32 ? kX32Bit : 0;
  for (const auto& [number, rules] : architecture.calls) {
    if (number > next) add(next, {answer(otherwise)});
    add(number, call_code(rules, architecture.wide_arguments, otherwise));
    next = number + 1;
  }
  add(next, {answer(architecture.calls.empty() ? otherwise : unknown)});
  return ranges;
}

// The number is in the accumulator.
Program search(const std::vector<Range>& ranges, size_t begin, size_t end) {
  if (end - begin == 1) return ranges[begin].code;
  size_t middle = begin + (end - begin) / 2;
  return branch(BPF_JGE, ranges[middle].first, search(ranges, middle, end), search(ranges, begin, middle));
}

}  // namespace

std::vector<sock_filter> seccomp_program(const std::vector<SeccompArchitecture>& architectures, uint32_t otherwise, uint32_t unknown) {
  const Program foreign = {answer(SECCOMP_RET_KILL_THREAD)};
  auto numbers = [&](const SeccompArchitecture& architecture) {
    std::vector<Range> ranges = ranges_of(architecture, otherwise, unknown);
    return search(ranges, 0, ranges.size());
  };
  // Built from the end: each audit architecture's code, else what has been built so far.
  Program program = foreign;
  std::set<uint32_t> done;
  for (auto each = architectures.rbegin(); each != architectures.rend(); ++each) {
    if (!done.insert(each->audit_arch).second) continue;
    auto find = [&](bool x32) {
      auto found = std::find_if(architectures.begin(), architectures.end(),
                                [&](const auto& one) { return one.audit_arch == each->audit_arch && one.x32 == x32; });
      return found == architectures.end() ? foreign : numbers(*found);
    };
    Program code = {load(offsetof(seccomp_data, nr))};
    append(code, each->audit_arch == AUDIT_ARCH_X86_64 ? branch(BPF_JGE, kX32Bit, find(true), find(false)) : find(false));
    program = branch(BPF_JEQ, each->audit_arch, code, program);
  }
  program.insert(program.begin(), load(offsetof(seccomp_data, arch)));
  return program;
}

}  // namespace caisson::container
