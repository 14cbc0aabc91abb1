#include "container/seccomp_names.h"

#include <linux/audit.h>
#include <seccomp.h>

#include <algorithm>
#include <set>
#include <string_view>

namespace caisson::container {
namespace {

struct Row {
  const char* name;
  uint32_t token;
  uint32_t audit_arch;
  bool x32, wide_arguments;
};

#if defined(__x86_64__)
constexpr Row kRows[] = {{"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64, false, true},
                         {"SCMP_ARCH_X86", SCMP_ARCH_X86, AUDIT_ARCH_I386, false, false},
                         {"SCMP_ARCH_X32", SCMP_ARCH_X32, AUDIT_ARCH_X86_64, true, false}};
#elif defined(__aarch64__)
constexpr Row kRows[] = {{"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64, AUDIT_ARCH_AARCH64, false, true},
                         {"SCMP_ARCH_ARM", SCMP_ARCH_ARM, AUDIT_ARCH_ARM, false, false}};
#else
#error "add this architecture's row"
#endif

// runtime-spec config-linux.md, "Seccomp".
bool is_specified(const std::string& name) {
  static const std::set<std::string_view> names = {
      "SCMP_ARCH_X86",     "SCMP_ARCH_X86_64",      "SCMP_ARCH_X32",    "SCMP_ARCH_ARM",      "SCMP_ARCH_AARCH64",     "SCMP_ARCH_MIPS",
      "SCMP_ARCH_MIPS64",  "SCMP_ARCH_MIPS64N32",   "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",
      "SCMP_ARCH_PPC64",   "SCMP_ARCH_PPC64LE",     "SCMP_ARCH_S390",   "SCMP_ARCH_S390X",    "SCMP_ARCH_PARISC",      "SCMP_ARCH_PARISC64",
      "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K",   "SCMP_ARCH_SH",       "SCMP_ARCH_SHEB"};
  return names.contains(name);
}

// Calls newer than libseccomp 2.5.4 knows; they have one number on all architectures (arch/*/syscalls/*.tbl of Linux 6.17).
constexpr struct {
  const char* name;
  uint32_t number;
} kNewer[] = {{"cachestat", 451},         {"fchmodat2", 452},         {"map_shadow_stack", 453}, {"futex_wake", 454},
              {"futex_wait", 455},        {"futex_requeue", 456},     {"statmount", 457},        {"listmount", 458},
              {"lsm_get_self_attr", 459}, {"lsm_set_self_attr", 460}, {"lsm_list_modules", 461}, {"mseal", 462},
              {"setxattrat", 463},        {"getxattrat", 464},        {"listxattrat", 465},      {"removexattrat", 466},
              {"open_tree_attr", 467},    {"file_getattr", 468},      {"file_setattr", 469}};

// 32-bit x86 has these calls behind socketcall(2) and ipc(2), whose first argument says which (linux/net.h, linux/ipc.h), and since
// Linux 4.3 and 5.1 most of them as calls of their own (asm/unistd_32.h; 0: not). libseccomp's own table has only made-up numbers for them.
constexpr struct {
  const char* name;
  uint32_t multiplexer, call, direct;
} kMultiplexed[] = {
    {"socket", 102, 1, 359},    {"bind", 102, 2, 361},        {"connect", 102, 3, 362},     {"listen", 102, 4, 363},
    {"accept", 102, 5, 0},      {"getsockname", 102, 6, 367}, {"getpeername", 102, 7, 368}, {"socketpair", 102, 8, 360},
    {"send", 102, 9, 0},        {"recv", 102, 10, 0},         {"sendto", 102, 11, 369},     {"recvfrom", 102, 12, 371},
    {"shutdown", 102, 13, 373}, {"setsockopt", 102, 14, 366}, {"getsockopt", 102, 15, 365}, {"sendmsg", 102, 16, 370},
    {"recvmsg", 102, 17, 372},  {"accept4", 102, 18, 364},    {"recvmmsg", 102, 19, 337},   {"sendmmsg", 102, 20, 345},
    {"semop", 117, 1, 0},       {"semget", 117, 2, 393},      {"semctl", 117, 3, 394},      {"semtimedop", 117, 4, 0},
    {"msgsnd", 117, 11, 400},   {"msgrcv", 117, 12, 401},     {"msgget", 117, 13, 399},     {"msgctl", 117, 14, 402},
    {"shmat", 117, 21, 397},    {"shmdt", 117, 22, 398},      {"shmget", 117, 23, 395},     {"shmctl", 117, 24, 396},
};

void add(SeccompArchitecture& into, uint32_t number, const std::vector<SeccompRule>& rules, bool effective) {
  std::vector<SeccompRule>& there = into.calls[number];
  if (effective) there.insert(there.end(), rules.begin(), rules.end());
}

// The multiplexer's first argument says which call it is; what the rule says of that argument cannot be looked at (it is in memory), so it
// is dropped, as by libseccomp.
bool add_multiplexed(const std::string& name, const std::vector<SeccompRule>& rules, bool effective, SeccompArchitecture& into) {
  auto found = std::find_if(std::begin(kMultiplexed), std::end(kMultiplexed), [&](const auto& row) { return name == row.name; });
  if (found == std::end(kMultiplexed)) return false;
  std::vector<SeccompRule> changed = rules;
  for (SeccompRule& rule : changed) {
    std::erase_if(rule.checks, [](const SeccompCheck& check) { return check.index == 0; });
    rule.checks.insert(rule.checks.begin(), SeccompCheck{0, SeccompCompare::Equal, found->call, 0});
  }
  add(into, found->multiplexer, changed, effective);
  if (found->direct != 0) add(into, found->direct, rules, effective);
  return true;
}

}  // namespace

Result<std::vector<SeccompTarget>> seccomp_targets(const std::vector<std::string>& names) {
  for (size_t i = 0; i < names.size(); ++i)
    if (!is_specified(names[i])) return make_error(EINVAL, "linux.seccomp.architectures[{}]: unknown architecture \"{}\"", i, names[i]);
  std::vector<SeccompTarget> targets;
  for (const Row& row : kRows) {
    bool own = row.token == seccomp_arch_native();
    if (!own && std::find(names.begin(), names.end(), row.name) == names.end()) continue;
    targets.push_back(SeccompTarget{row.token, SeccompArchitecture{row.audit_arch, row.x32, row.wide_arguments, {}}});
  }
  return targets;
}

bool add_seccomp_call(const SeccompTarget& target, const std::string& name, const std::vector<SeccompRule>& rules, bool effective,
                      SeccompArchitecture& into) {
  if (target.token == SCMP_ARCH_X86 && add_multiplexed(name, rules, effective, into)) return true;
  int number = seccomp_syscall_resolve_name_arch(
      target.token, name.c_str());  // negative: libseccomp's own numbers for calls that this architecture does not have
  if (number >= 0) {
    add(into, static_cast<uint32_t>(number), rules, effective);
    return true;
  }
  auto newer = std::find_if(std::begin(kNewer), std::end(kNewer), [&](const auto& row) { return name == row.name; });
  if (newer == std::end(kNewer)) return false;
  add(into, newer->number | (target.architecture.x32 ? 0x40000000 : 0), rules, effective);
  return true;
}

}  // namespace caisson::container
