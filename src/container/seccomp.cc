#include "container/seccomp.h"

#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "base/log.h"

// Newer than Debian 12's kernel headers (include/uapi/linux/seccomp.h).
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace caisson::container {
namespace {

using Filter = std::unique_ptr<void, decltype(&seccomp_release)>;

// runtime-spec config-linux.md, "Seccomp": the two errno actions and SCMP_ACT_TRACE carry errnoRet, EPERM by default.
Result<uint32_t> action_of(const std::string& name, const std::optional<uint32_t>& errno_ret, const std::string& where) {
  static const std::map<std::string, uint32_t> plain = {
      {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD}, {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD}, {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS}, {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
      {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},      {"SCMP_ACT_LOG", SCMP_ACT_LOG},                 {"SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY}};
  bool carries = name == "SCMP_ACT_ERRNO" || name == "SCMP_ACT_TRACE";
  if (errno_ret && !carries) return make_error(EINVAL, "{}: errnoRet is only for SCMP_ACT_ERRNO and SCMP_ACT_TRACE, not for {}", where, name);
  uint32_t value = errno_ret.value_or(EPERM);
  // The kernel takes 4095 at most for an errno and returns a trace's data as 16 bits.
  if (carries && value > (name == "SCMP_ACT_ERRNO" ? 4095u : 65535u)) return make_error(EINVAL, "{}: errnoRet {} is too large", where, value);
  if (name == "SCMP_ACT_ERRNO") return static_cast<uint32_t>(SCMP_ACT_ERRNO(value));
  if (name == "SCMP_ACT_TRACE") return static_cast<uint32_t>(SCMP_ACT_TRACE(value));
  auto found = plain.find(name);
  if (found == plain.end()) return make_error(EINVAL, "{}: unknown action \"{}\"", where, name);
  return found->second;
}

Result<scmp_compare> operator_of(const std::string& name, const std::string& where) {
  static const std::map<std::string, scmp_compare> operators = {{"SCMP_CMP_NE", SCMP_CMP_NE}, {"SCMP_CMP_LT", SCMP_CMP_LT}, {"SCMP_CMP_LE", SCMP_CMP_LE}, {"SCMP_CMP_EQ", SCMP_CMP_EQ},
                                                                {"SCMP_CMP_GE", SCMP_CMP_GE}, {"SCMP_CMP_GT", SCMP_CMP_GT}, {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};
  auto found = operators.find(name);
  if (found == operators.end()) return make_error(EINVAL, "{}.op: unknown operator \"{}\"", where, name);
  return found->second;
}

Result<uint32_t> architecture_of(const std::string& name, const std::string& where) {
  static const std::map<std::string, uint32_t> architectures = {
      {"SCMP_ARCH_X86", SCMP_ARCH_X86},           {"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64},   {"SCMP_ARCH_X32", SCMP_ARCH_X32},         {"SCMP_ARCH_ARM", SCMP_ARCH_ARM},
      {"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64},   {"SCMP_ARCH_MIPS", SCMP_ARCH_MIPS},       {"SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64},   {"SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32},
      {"SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL},     {"SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64}, {"SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32}, {"SCMP_ARCH_PPC", SCMP_ARCH_PPC},
      {"SCMP_ARCH_PPC64", SCMP_ARCH_PPC64},       {"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE}, {"SCMP_ARCH_S390", SCMP_ARCH_S390},       {"SCMP_ARCH_S390X", SCMP_ARCH_S390X},
      {"SCMP_ARCH_PARISC", SCMP_ARCH_PARISC},     {"SCMP_ARCH_PARISC64", SCMP_ARCH_PARISC64}, {"SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64}};
  auto found = architectures.find(name);
  if (found == architectures.end()) return make_error(EINVAL, "{}: unknown architecture \"{}\"", where, name);
  return found->second;
}

Result<unsigned> flags_of(const oci::Seccomp& seccomp) {
  static const std::map<std::string, unsigned> known = {{"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
                                                        {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
                                                        {"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
                                                        {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV}};
  unsigned flags = 0;
  for (size_t i = 0; i < seccomp.flags.size(); ++i) {
    auto found = known.find(seccomp.flags[i]);
    if (found == known.end()) return make_error(EINVAL, "linux.seccomp.flags[{}]: unknown flag \"{}\"", i, seccomp.flags[i]);
    flags |= found->second;
  }
  return flags;
}

bool uses_notify(const oci::Seccomp& seccomp) {
  return std::any_of(seccomp.syscalls.begin(), seccomp.syscalls.end(), [](const oci::SeccompSyscall& rule) { return rule.action == "SCMP_ACT_NOTIFY"; });
}

// A notified write would leave the caller unable to tell anybody (runc's rule, and crun's).
Result<void> check_notify(const oci::Seccomp& seccomp) {
  if (seccomp.default_action == "SCMP_ACT_NOTIFY") return make_error(EINVAL, "linux.seccomp.defaultAction: must not be SCMP_ACT_NOTIFY");
  for (size_t i = 0; i < seccomp.syscalls.size(); ++i) {
    const oci::SeccompSyscall& rule = seccomp.syscalls[i];
    if (rule.action == "SCMP_ACT_NOTIFY" && std::find(rule.names.begin(), rule.names.end(), "write") != rule.names.end())
      return make_error(EINVAL, "linux.seccomp.syscalls[{}]: SCMP_ACT_NOTIFY must not be used for the write system call", i);
  }
  if (uses_notify(seccomp) && seccomp.listener_path.empty()) return make_error(EINVAL, "linux.seccomp.listenerPath: must be set when SCMP_ACT_NOTIFY is used");
  if (!uses_notify(seccomp) && !seccomp.listener_path.empty())
    return make_error(EINVAL, "linux.seccomp.listenerPath: is set, but no rule uses SCMP_ACT_NOTIFY");
  return {};
}

Result<std::vector<scmp_arg_cmp>> arguments_of(const oci::SeccompSyscall& rule, const std::string& where) {
  std::vector<scmp_arg_cmp> args;
  for (size_t i = 0; i < rule.args.size(); ++i) {
    const oci::SeccompArg& arg = rule.args[i];
    std::string here = fmt::format("{}.args[{}]", where, i);
    if (arg.index > 5) return make_error(EINVAL, "{}.index: must be a number from 0 to 5, is {}", here, arg.index);
    scmp_compare compare = TRY(operator_of(arg.op, here));
    args.push_back(scmp_arg_cmp{arg.index, compare, arg.value, arg.value_two});
  }
  return args;
}

Result<void> rule_failed(int code, const std::string& where, const std::string& name) {
  return make_error(-code, "{}: the rule for \"{}\" cannot be added: {}", where, name, strerrordesc_np(-code) ? strerrordesc_np(-code) : "unknown error");
}

// One system call's rule. libseccomp takes each argument once per rule: where one is compared twice, the comparisons become alternatives (runc does so too).
Result<void> add_rule(scmp_filter_ctx filter, uint32_t action, int number, const std::vector<scmp_arg_cmp>& args, const std::string& where, const std::string& name) {
  std::set<unsigned> indexes;
  for (const scmp_arg_cmp& arg : args) indexes.insert(arg.arg);
  auto add = [&](const std::vector<scmp_arg_cmp>& with) -> Result<void> {
    int code = seccomp_rule_add_array(filter, action, number, static_cast<unsigned>(with.size()), with.data());
    if (code == -EEXIST) return {};  // the same rule twice
    if (code < 0) return rule_failed(code, where, name);
    return {};
  };
  if (indexes.size() == args.size()) return add(args);
  for (const scmp_arg_cmp& arg : args) TRY(add({arg}));
  return {};
}

Result<void> add_rules(scmp_filter_ctx filter, const oci::Seccomp& seccomp, uint32_t default_action) {
  for (size_t i = 0; i < seccomp.syscalls.size(); ++i) {
    const oci::SeccompSyscall& rule = seccomp.syscalls[i];
    std::string where = fmt::format("linux.seccomp.syscalls[{}]", i);
    if (rule.names.empty()) return make_error(EINVAL, "{}.names: must not be empty", where);
    uint32_t action = TRY(action_of(rule.action, rule.errno_ret, where));
    std::vector<scmp_arg_cmp> args = TRY(arguments_of(rule, where));
    if (action == default_action) continue;  // says nothing new, and libseccomp refuses it
    for (const std::string& name : rule.names) {
      int number = seccomp_syscall_resolve_name(name.c_str());
      if (number == __NR_SCMP_ERROR) {
        log::debug("{}: the system call \"{}\" is not known and is left out", where, name);
        continue;
      }
      TRY(add_rule(filter, action, number, args, where, name));
    }
  }
  return {};
}

Result<void> add_architectures(scmp_filter_ctx filter, const oci::Seccomp& seccomp) {
  for (size_t i = 0; i < seccomp.architectures.size(); ++i) {
    std::string where = fmt::format("linux.seccomp.architectures[{}]", i);
    uint32_t architecture = TRY(architecture_of(seccomp.architectures[i], where));
    int code = seccomp_arch_add(filter, architecture);
    if (code < 0 && code != -EEXIST) return make_error(-code, "{}: {} cannot be used on this machine", where, seccomp.architectures[i]);
  }
  return {};
}

Result<std::vector<sock_filter>> export_program(scmp_filter_ctx filter) {
  UniqueFd file(memfd_create("caisson-seccomp", MFD_CLOEXEC));
  if (!file) return errno_error("making a memory file for the seccomp program");
  int code = seccomp_export_bpf(filter, file.get());
  if (code < 0) return make_error(-code, "linux.seccomp: the filter cannot be compiled (libseccomp error {})", -code);
  off_t size = lseek(file.get(), 0, SEEK_END);
  std::vector<sock_filter> program(static_cast<size_t>(std::max<off_t>(size, 0)) / sizeof(sock_filter));
  ssize_t bytes = static_cast<ssize_t>(program.size() * sizeof(sock_filter));
  if (bytes == 0 || pread(file.get(), program.data(), static_cast<size_t>(bytes), 0) != bytes) return errno_error("reading the seccomp program back");
  if (program.size() > BPF_MAXINSNS) return make_error(EINVAL, "linux.seccomp: the filter has {} instructions, the kernel takes {} at most", program.size(), BPF_MAXINSNS);
  return program;
}

}  // namespace

Result<SeccompFilter> compile_seccomp(const oci::Seccomp& seccomp) {
  SeccompFilter compiled;
  compiled.flags = TRY(flags_of(seccomp));
  TRY(check_notify(seccomp));
  compiled.wants_listener = uses_notify(seccomp);
  if (seccomp.default_errno_ret && seccomp.default_action != "SCMP_ACT_ERRNO" && seccomp.default_action != "SCMP_ACT_TRACE")
    return make_error(EINVAL, "linux.seccomp.defaultErrnoRet: is only for SCMP_ACT_ERRNO and SCMP_ACT_TRACE, not for {}", seccomp.default_action);
  uint32_t action = TRY(action_of(seccomp.default_action, seccomp.default_errno_ret, "linux.seccomp.defaultAction"));
  // Actions newer than what libseccomp sees in this kernel are accepted by what it was built for; the kernel has the last word when the filter is loaded.
  if (seccomp_api_get() < 6) seccomp_api_set(6);
  Filter filter(seccomp_init(action), &seccomp_release);
  if (!filter) return make_error(EINVAL, "linux.seccomp.defaultAction: \"{}\" cannot be used as the default", seccomp.default_action);
  TRY(add_architectures(filter.get(), seccomp));
  TRY(add_rules(filter.get(), seccomp, action));
  compiled.program = TRY(export_program(filter.get()));
  return compiled;
}

Result<UniqueFd> load_seccomp(const SeccompFilter& filter) {
  if (filter.program.empty()) return make_error(EINVAL, "an empty seccomp program cannot be loaded");
  sock_fprog program{static_cast<unsigned short>(filter.program.size()), const_cast<sock_filter*>(filter.program.data())};
  unsigned flags = filter.flags;
  if (filter.wants_listener) {
    flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
    if (flags & SECCOMP_FILTER_FLAG_TSYNC) flags |= SECCOMP_FILTER_FLAG_TSYNC_ESRCH;  // the kernel demands it of the two together
  } else {
    flags &= ~SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;  // means nothing without a listener, and the kernel refuses it then
  }
  long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (result < 0) return errno_error("loading the filter of linux.seccomp (flags {:#x}, {} instructions)", flags, filter.program.size());
  return filter.wants_listener ? UniqueFd(static_cast<int>(result)) : UniqueFd();
}

}  // namespace caisson::container
