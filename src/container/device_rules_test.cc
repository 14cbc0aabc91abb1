#include "container/device_rules.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/cgroup.h"
#include "host/cgroup_bpf.h"

namespace caisson::container {
namespace {

// The few instructions that device_program uses, by the kernel's instruction-set.rst.
int interpret(const std::vector<bpf_insn>& program, uint32_t type, uint32_t access, uint32_t major, uint32_t minor) {
  const uint32_t context[3] = {access << 16 | type, major, minor};
  uint64_t registers[11] = {};
  for (size_t at = 0; at < program.size(); ++at) {
    const bpf_insn& insn = program[at];
    uint64_t& to = registers[insn.dst_reg];
    uint64_t other = BPF_SRC(insn.code) == BPF_X ? registers[insn.src_reg] : static_cast<uint64_t>(static_cast<int64_t>(insn.imm));
    switch (BPF_CLASS(insn.code)) {
      case BPF_LDX:
        to = context[insn.off / 4];
        break;
      case BPF_ALU:
        if (BPF_OP(insn.code) == BPF_MOV)
          to = static_cast<uint32_t>(other);
        else if (BPF_OP(insn.code) == BPF_AND)
          to = static_cast<uint32_t>(to & other);
        else if (BPF_OP(insn.code) == BPF_RSH)
          to = static_cast<uint32_t>(to) >> other;
        else
          ADD_FAILURE() << "unknown operation";
        break;
      case BPF_JMP:
        if (BPF_OP(insn.code) == BPF_EXIT) return static_cast<int>(registers[0]);
        if ((BPF_OP(insn.code) == BPF_JEQ && to == other) || (BPF_OP(insn.code) == BPF_JNE && to != other))
          at += static_cast<size_t>(insn.off);
        break;
      default:
        ADD_FAILURE() << "unknown class";
    }
  }
  ADD_FAILURE() << "ran off the end";
  return -1;
}

oci::DeviceCgroup rule(bool allow, const char* type, std::optional<int64_t> major, std::optional<int64_t> minor, const char* access) {
  return {allow, type, major, minor, access};
}

bool allowed(const std::vector<oci::DeviceCgroup>& devices, char type, uint32_t access, uint32_t major, uint32_t minor) {
  return interpret(device_program(device_rules(devices).value()), type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR, access, major,
                   minor) == 1;
}

TEST(DeviceProgram, DefaultsOnly) {
  EXPECT_TRUE(allowed({}, 'c', kRead | kWrite, 1, 3));
  EXPECT_TRUE(allowed({}, 'c', kRead, 136, 77));
  EXPECT_TRUE(allowed({}, 'b', kMknod, 8, 0));
  EXPECT_FALSE(allowed({}, 'b', kRead, 8, 0));
  EXPECT_FALSE(allowed({}, 'c', kMknod | kRead, 1, 1));  // each bit must be allowed
  EXPECT_FALSE(allowed({}, 'b', kRead, 1, 3));           // the same numbers of the other kind
}

TEST(DeviceProgram, LaterRulesWin) {
  std::vector<oci::DeviceCgroup> devices = {rule(true, "c", 10, std::nullopt, "rwm"), rule(false, "c", 10, 229, "w"),
                                            rule(true, "b", 8, 1, "r")};
  EXPECT_TRUE(allowed(devices, 'c', kRead | kWrite, 10, 1));
  EXPECT_TRUE(allowed(devices, 'c', kRead, 10, 229));
  EXPECT_FALSE(allowed(devices, 'c', kWrite, 10, 229));
  EXPECT_FALSE(allowed(devices, 'c', kRead | kWrite, 10, 229));
  EXPECT_TRUE(allowed(devices, 'b', kRead, 8, 1));
  EXPECT_FALSE(allowed(devices, 'b', kRead | kWrite, 8, 1));
}

TEST(DeviceProgram, BitsAllowedByDifferentRulesAddUp) {
  std::vector<oci::DeviceCgroup> devices = {rule(true, "b", 8, -1, "r"), rule(true, "b", -1, 5, "w")};
  EXPECT_TRUE(allowed(devices, 'b', kRead | kWrite, 8, 5));
  EXPECT_FALSE(allowed(devices, 'b', kRead | kWrite, 8, 6));
}

TEST(DeviceProgram, AllowAllEndsTheProgramEarly) {
  std::vector<oci::DeviceCgroup> devices = {rule(true, "c", 99, 1, "r"), rule(true, "", std::nullopt, std::nullopt, "rwm"),
                                            rule(false, "c", 1, 1, "rw")};
  EXPECT_TRUE(allowed(devices, 'b', kRead | kWrite | kMknod, 250, 3));
  EXPECT_FALSE(allowed(devices, 'c', kRead, 1, 1));
}

TEST(DeviceProgram, TheKernelsVerifierTakesIt) {
  std::vector<std::vector<oci::DeviceCgroup>> cases = {
      {},
      {rule(true, "a", std::nullopt, std::nullopt, "rwm")},
      {rule(true, "a", 1, std::nullopt, "r"), rule(false, "b", -1, 3, "m"), rule(true, "c", 2147483647, 0, "w")}};
  for (const auto& devices : cases) {
    Result<UniqueFd> program = host::load_device_program(device_program(device_rules(devices).value()));
    if (!program.ok() && (program.error().code() == EPERM || program.error().code() == ENOSYS)) GTEST_SKIP() << program.error().message();
    EXPECT_TRUE(program.ok()) << program.error().message();
  }
  Result<UniqueFd> broken = host::load_device_program({bpf_insn{BPF_JMP | BPF_EXIT, 0, 0, 0, 0}});
  ASSERT_FALSE(broken.ok());
  EXPECT_NE(broken.error().message().find("R0"), std::string::npos) << broken.error().message();  // what the verifier said
}

TEST(DeviceProgram, AttachedItHoldsAndIsReplaced) {
  Result<host::CgroupLayout> layout = host::cgroup_layout();
  if (!layout.ok() || layout->unified.empty() || geteuid() != 0) GTEST_SKIP() << "needs root and a v2 hierarchy";
  host::CgroupPaths paths = host::cgroup_paths(*layout, fmt::format("/caisson-bpf-{}", getpid())).value();
  paths.folders = {{"", paths.folders.at("")}};
  paths.version = host::CgroupVersion::V2;
  Result<void> made = host::create_cgroup(paths);
  if (!made.ok()) GTEST_SKIP() << made.error().message();
  std::string folder = paths.folders.at("");
  auto opens_null_and_full = [&](const std::vector<DeviceRule>& rules) {
    Result<UniqueFd> program = host::load_device_program(device_program(rules));
    EXPECT_TRUE(program.ok()) << program.error().message();
    Result<void> set = host::set_device_program(folder, program->get());
    EXPECT_TRUE(set.ok()) << set.error().message();
    EXPECT_EQ(host::device_programs(folder)->size(), 1u);
    pid_t pid = fork();
    if (pid == 0) {
      if (!host::attach_to_cgroup(paths, 0).ok()) _exit(9);
      _exit((open("/dev/null", O_RDWR) >= 0 ? 1 : 0) | (open("/dev/full", O_RDWR) >= 0 ? 2 : 0));
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
  };
  EXPECT_EQ(opens_null_and_full({DeviceRule{}, {true, 'c', 1, 3, kRead | kWrite}}), 1);
  EXPECT_EQ(opens_null_and_full({DeviceRule{}, {true, 'c', 1, 7, kRead | kWrite}}), 2);
  EXPECT_EQ(opens_null_and_full({DeviceRule{}, {true, 'c', 1, -1, kRead}}), 0);
  EXPECT_TRUE(host::remove_cgroup(paths).ok());
}

TEST(DeviceRules, ErrorsNameTheMember) {
  auto message = [](oci::DeviceCgroup device) {
    auto rules = device_rules({rule(true, "c", 1, 1, "r"), device});
    return rules.ok() ? std::string() : rules.error().message();
  };
  EXPECT_TRUE(message(rule(true, "x", 1, 1, "r")).starts_with("linux.resources.devices[1].type"));
  EXPECT_TRUE(message(rule(true, "c", -2, 1, "r")).starts_with("linux.resources.devices[1].major"));
  EXPECT_TRUE(message(rule(true, "c", 1, int64_t{1} << 40, "r")).starts_with("linux.resources.devices[1].minor"));
  EXPECT_TRUE(message(rule(true, "c", 1, 1, "rx")).starts_with("linux.resources.devices[1].access"));
}

// What runc 1.1.5 leaves in devices.list for "deny all" and no more.
TEST(DeviceList, DefaultsAreRuncs) {
  DeviceList list = device_list(device_rules({rule(false, "", std::nullopt, std::nullopt, "rwm")}).value()).value();
  EXPECT_FALSE(list.allow_by_default);
  EXPECT_EQ(list.exceptions, (std::vector<std::string>{"b *:* m", "c *:* m", "c 10:200 rwm", "c 136:* rwm", "c 1:3 rwm", "c 1:5 rwm",
                                                       "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm"}));
  EXPECT_EQ(parse_device_list("b *:* m\nc *:* m\nc 1:3 rwm\n").exceptions, (std::vector<std::string>{"b *:* m", "c *:* m", "c 1:3 rwm"}));
  EXPECT_TRUE(parse_device_list("a *:* rwm\n").allow_by_default);
}

TEST(DeviceList, DenyTakesBackWhatItCoversAndNoMore) {
  DeviceList list =
      device_list({DeviceRule{}, {true, 'b', 8, 1, kRead | kWrite}, {true, 'b', 8, 2, kRead}, {false, 'b', 8, -1, kRead}}).value();
  EXPECT_EQ(list.exceptions, (std::vector<std::string>{"b 8:1 w"}));
  auto hole = device_list({DeviceRule{}, {true, 'b', 8, -1, kRead}, {false, 'b', 8, 2, kRead}});
  ASSERT_FALSE(hole.ok());
  EXPECT_NE(hole.error().message().find("b 8:2 r"), std::string::npos);
  EXPECT_TRUE(device_list({DeviceRule{}, {true, 'b', 8, -1, kRead}, {false, 'b', 8, 2, kWrite}}).ok());  // nothing in common
}

TEST(DeviceList, AllowByDefaultWithExceptions) {
  DeviceList list = device_list({DeviceRule{}, {true}, {false, 'c', 10, 232, kRead | kWrite}}).value();
  EXPECT_TRUE(list.allow_by_default);
  EXPECT_EQ(list.exceptions, (std::vector<std::string>{"c 10:232 rw"}));
}

}  // namespace
}  // namespace caisson::container
