// Our filters against those of libseccomp, both run on the same made-up system calls.
#include "container/seccomp_program.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "container/seccomp.h"

namespace caisson::container {
namespace {

// Documentation/networking/filter.rst, the part that both use.
uint32_t run(const std::vector<sock_filter>& program, const seccomp_data& data) {
  uint32_t accumulator = 0;
  for (size_t at = 0; at < program.size(); ++at) {
    const sock_filter& insn = program[at];
    switch (BPF_CLASS(insn.code)) {
      case BPF_LD:
        memcpy(&accumulator, reinterpret_cast<const char*>(&data) + insn.k, 4);
        break;
      case BPF_ALU:
        EXPECT_EQ(BPF_OP(insn.code), BPF_AND);
        accumulator &= insn.k;
        break;
      case BPF_RET:
        return insn.k;
      case BPF_JMP: {
        bool holds = false;
        if (BPF_OP(insn.code) == BPF_JA) {
          at += insn.k;
          break;
        }
        if (BPF_OP(insn.code) == BPF_JEQ)
          holds = accumulator == insn.k;
        else if (BPF_OP(insn.code) == BPF_JGT)
          holds = accumulator > insn.k;
        else if (BPF_OP(insn.code) == BPF_JGE)
          holds = accumulator >= insn.k;
        else
          ADD_FAILURE() << "unknown jump";
        at += holds ? insn.jt : insn.jf;
        break;
      }
      default:
        ADD_FAILURE() << "unknown class";
        return 0;
    }
  }
  ADD_FAILURE() << "ran off the end";
  return 0;
}

const std::map<std::string, scmp_compare> kOperators = {{"SCMP_CMP_NE", SCMP_CMP_NE},
                                                        {"SCMP_CMP_LT", SCMP_CMP_LT},
                                                        {"SCMP_CMP_LE", SCMP_CMP_LE},
                                                        {"SCMP_CMP_EQ", SCMP_CMP_EQ},
                                                        {"SCMP_CMP_GE", SCMP_CMP_GE},
                                                        {"SCMP_CMP_GT", SCMP_CMP_GT},
                                                        {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};

uint32_t action(const std::string& name, std::optional<uint32_t> errno_ret) {
  if (name == "SCMP_ACT_ERRNO") return static_cast<uint32_t>(SCMP_ACT_ERRNO(errno_ret.value_or(EPERM)));
  if (name == "SCMP_ACT_KILL_PROCESS") return SCMP_ACT_KILL_PROCESS;
  if (name == "SCMP_ACT_TRAP") return SCMP_ACT_TRAP;
  return SCMP_ACT_ALLOW;
}

std::vector<sock_filter> by_libseccomp(const oci::Seccomp& seccomp) {
  uint32_t otherwise = action(seccomp.default_action, seccomp.default_errno_ret);
  scmp_filter_ctx filter = seccomp_init(otherwise);
  for (const std::string& name : seccomp.architectures)
    seccomp_arch_add(filter, name == "SCMP_ARCH_X86" ? SCMP_ARCH_X86 : name == "SCMP_ARCH_X32" ? SCMP_ARCH_X32 : SCMP_ARCH_X86_64);
  for (const oci::SeccompSyscall& rule : seccomp.syscalls) {
    std::vector<scmp_arg_cmp> args;
    for (const oci::SeccompArg& arg : rule.args) args.push_back(scmp_arg_cmp{arg.index, kOperators.at(arg.op), arg.value, arg.value_two});
    uint32_t answer = action(rule.action, rule.errno_ret);
    if (answer == otherwise) continue;
    for (const std::string& name : rule.names) {
      int number = seccomp_syscall_resolve_name(name.c_str());
      if (number != __NR_SCMP_ERROR) seccomp_rule_add_array(filter, answer, number, static_cast<unsigned>(args.size()), args.data());
    }
  }
  int file = memfd_create("filter", MFD_CLOEXEC);
  EXPECT_EQ(seccomp_export_bpf(filter, file), 0);
  std::vector<sock_filter> program(static_cast<size_t>(lseek(file, 0, SEEK_END)) / sizeof(sock_filter));
  EXPECT_GT(pread(file, program.data(), program.size() * sizeof(sock_filter), 0), 0);
  close(file);
  seccomp_release(filter);
  return program;
}

struct Call {
  uint32_t arch, number;
};

// Every number that means something, and some that do not; `largest` is the last that both know.
std::vector<Call> calls(uint32_t largest) {
  std::vector<Call> all;
  for (uint32_t number = 0; number <= largest; ++number) {
    all.push_back({AUDIT_ARCH_X86_64, number});
    all.push_back({AUDIT_ARCH_I386, number});
    all.push_back({AUDIT_ARCH_X86_64, number | 0x40000000});
  }
  for (uint32_t number = 0x40000000 + 512; number <= 0x40000000 + 547; ++number) all.push_back({AUDIT_ARCH_X86_64, number});
  all.push_back({AUDIT_ARCH_AARCH64, 3});
  all.push_back({AUDIT_ARCH_ARM, 3});
  return all;
}

void compare(const oci::Seccomp& seccomp, uint32_t largest, std::mt19937_64& random, const std::vector<uint64_t>& values) {
  std::vector<sock_filter> theirs = by_libseccomp(seccomp);
  Result<SeccompFilter> ours = compile_seccomp(seccomp);
  ASSERT_TRUE(ours.ok()) << ours.error().message();
  for (const Call& call : calls(largest)) {
    for (int round = 0; round < 12; ++round) {
      seccomp_data data{static_cast<int>(call.number), call.arch, 0, {}};
      // The kernel gives a filter 32 bits of an i386 call's arguments: of more the two make different things.
      const uint64_t mask = call.arch == AUDIT_ARCH_I386 || call.arch == AUDIT_ARCH_ARM ? UINT32_MAX : UINT64_MAX;
      for (auto& arg : data.args) arg = values[random() % values.size()] & mask;
      ASSERT_EQ(run(ours->program, data), run(theirs, data))
          << fmt::format("arch {:#x} call {:#x} args {:#x} {:#x} {:#x} {:#x} {:#x} {:#x}", call.arch, call.number, data.args[0],
                         data.args[1], data.args[2], data.args[3], data.args[4], data.args[5]);
    }
  }
}

TEST(SeccompProgram, IsLibseccompsOnPodmansProfile) {
  std::ifstream file("/usr/share/containers/seccomp.json");
  if (!file) GTEST_SKIP() << "/usr/share/containers/seccomp.json (package golang-github-containers-common) is not there";
  auto json = nlohmann::json::parse(file);
  oci::Seccomp seccomp;
  seccomp.default_action = json["defaultAction"];
  if (json.contains("defaultErrnoRet")) seccomp.default_errno_ret = json["defaultErrnoRet"].get<uint32_t>();
  seccomp.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  for (const auto& rule : json["syscalls"]) {
    oci::SeccompSyscall call{rule["names"], rule["action"], std::nullopt, {}};
    if (rule.contains("errnoRet") && call.action == "SCMP_ACT_ERRNO") call.errno_ret = rule["errnoRet"].get<uint32_t>();
    if (rule["args"].is_array())
      for (const auto& arg : rule["args"]) call.args.push_back({arg["index"], arg["value"], arg.value("valueTwo", uint64_t{0}), arg["op"]});
    seccomp.syscalls.push_back(std::move(call));
  }
  std::mt19937_64 random(1);
  std::vector<uint64_t> values = {0,          1, 2, 3, 8, 16, 40, 2080505856, 2114060288, 0x20000, 0x20008, 0xffffffff, 0xffffffffffffffff,
                                  0x100000000};
  compare(seccomp, 445, random, values);
}

TEST(SeccompProgram, IsLibseccompsOnRandomProfiles) {
  // Another seed finds others: libseccomp 2.5 gives 2212729715 a program that differs from its own pseudo code (call 19 of i386).
  const char* given = getenv("CAISSON_TEST_SEED");
  const uint64_t seed = given != nullptr ? strtoull(given, nullptr, 10) : 20261121;
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  const std::vector<std::string> names = {"read",   "open",   "getppid", "clone",  "personality", "prctl",  "ioctl",  "fcntl",
                                          "openat", "lseek",  "tgkill",  "waitid", "futex",       "splice", "statx",  "mmap",
                                          "mount",  "keyctl", "socket",  "sendto", "recvmmsg",    "accept", "shmget", "semop"};
  const std::vector<uint64_t> values = {
      0, 1, 5, 6, 0xfffffffe, 0xffffffff, 0x100000000, 0x100000005, 0xffffffff00000005, 0xffffffffffffffff};
  std::vector<std::string> operators;
  for (const auto& [name, compare] : kOperators) operators.push_back(name);
  for (int round = 0; round < 30; ++round) {
    oci::Seccomp seccomp;
    seccomp.default_action = random() % 2 ? "SCMP_ACT_ALLOW" : "SCMP_ACT_ERRNO";
    if (seccomp.default_action == "SCMP_ACT_ERRNO") seccomp.default_errno_ret = ENOSYS;
    if (random() % 2) seccomp.architectures.push_back("SCMP_ARCH_X86");
    if (random() % 2) seccomp.architectures.push_back("SCMP_ARCH_X32");
    for (const std::string& name : names) {  // one rule for a call: which of several wins is not specified
      if (random() % 3 == 0) continue;
      oci::SeccompSyscall rule{
          {name}, seccomp.default_action == "SCMP_ACT_ALLOW" ? "SCMP_ACT_KILL_PROCESS" : "SCMP_ACT_ALLOW", std::nullopt, {}};
      std::set<uint32_t> used;
      for (uint64_t count = random() % 4; count > 0; --count) {
        uint32_t index = static_cast<uint32_t>(random() % 6);
        if (!used.insert(index).second) continue;
        uint64_t value = values[random() % values.size()], value_two = values[random() % values.size()];
        std::string op = operators[random() % operators.size()];
        if (op == "SCMP_CMP_MASKED_EQ") value_two &= value;
        rule.args.push_back({index, value, value_two, op});
      }
      seccomp.syscalls.push_back(std::move(rule));
    }
    compare(seccomp, 445, random, values);
    if (HasFatalFailure()) return;
  }
}

TEST(SeccompProgram, AmongSeveralRulesThePlainOneWinsThenTheFirst) {
  SeccompArchitecture native{AUDIT_ARCH_X86_64, false, true, {}};
  native.calls[7] = {{11, {{0, SeccompCompare::GreaterOrEqual, 5, 0}}},
                     {12, {{0, SeccompCompare::Equal, 6, 0}}},
                     {13, {{0, SeccompCompare::Equal, 1, 0}}}};
  native.calls[8] = {{11, {{0, SeccompCompare::Equal, 1, 0}}}, {14, {}}};
  std::vector<sock_filter> program = seccomp_program({native}, 99, 98);
  auto at = [&](int number, uint64_t arg) { return run(program, {number, AUDIT_ARCH_X86_64, 0, {arg}}); };
  EXPECT_EQ(at(7, 6), 11u);
  EXPECT_EQ(at(7, 1), 13u);
  EXPECT_EQ(at(7, 2), 99u);
  EXPECT_EQ(at(8, 1), 14u);
  EXPECT_EQ(at(6, 1), 99u);
  EXPECT_EQ(at(9, 1), 98u);
}

TEST(SeccompProgram, CallsYoungerThanTheProfileAreMissing) {
  oci::Seccomp seccomp;
  seccomp.default_action = "SCMP_ACT_KILL_PROCESS";
  seccomp.architectures = {"SCMP_ARCH_X32"};
  seccomp.syscalls = {{{"read", "fchmodat2"}, "SCMP_ACT_ALLOW", std::nullopt, {}}};
  std::vector<sock_filter> program = compile_seccomp(seccomp)->program;
  auto at = [&](uint32_t number) { return run(program, {static_cast<int>(number), AUDIT_ARCH_X86_64, 0, {}}); };
  EXPECT_EQ(at(452), SECCOMP_RET_ALLOW);  // newer than libseccomp
  EXPECT_EQ(at(0x40000000 + 452), SECCOMP_RET_ALLOW);
  EXPECT_EQ(at(451), SECCOMP_RET_KILL_PROCESS);
  EXPECT_EQ(at(453), SECCOMP_RET_ERRNO | ENOSYS);
  EXPECT_EQ(run(program, {3, AUDIT_ARCH_I386, 0, {}}), SECCOMP_RET_KILL_THREAD);  // not asked for
}

TEST(SeccompProgram, ManyRulesReachFurtherThanAConditionalJump) {
  SeccompArchitecture native{AUDIT_ARCH_X86_64, false, true, {}};
  for (uint32_t number = 0; number < 300; ++number)
    native.calls[number] = {{number + 1000, {{0, SeccompCompare::Equal, number, 0}, {1, SeccompCompare::LessOrEqual, 1ull << 40, 0}}}};
  std::vector<sock_filter> program = seccomp_program({native}, 99, 98);
  EXPECT_LT(program.size(), size_t{BPF_MAXINSNS});
  for (uint32_t number = 0; number < 300; ++number) {
    EXPECT_EQ(run(program, {static_cast<int>(number), AUDIT_ARCH_X86_64, 0, {number, 1ull << 40}}), number + 1000);
    EXPECT_EQ(run(program, {static_cast<int>(number), AUDIT_ARCH_X86_64, 0, {number, (1ull << 40) + 1}}), 99u);
    EXPECT_EQ(run(program, {static_cast<int>(number), AUDIT_ARCH_X86_64, 0, {number + 1, 0}}), 99u);
  }
}

}  // namespace
}  // namespace caisson::container
