#include "container/seccomp.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/log.h"
#include "container/seccomp_names.h"
#include "container/seccomp_program.h"

// Newer than Debian 12's kernel headers (include/uapi/linux/seccomp.h).
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace caisson::container {
namespace {

// runtime-spec config-linux.md, "Seccomp": the two errno actions and SCMP_ACT_TRACE carry errnoRet, EPERM by default.
Result<uint32_t> action_of(const std::string& name, const std::optional<uint32_t>& errno_ret, const std::string& where) {
  static const std::map<std::string, uint32_t> plain = {{"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD},
                                                        {"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD},
                                                        {"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS},
                                                        {"SCMP_ACT_TRAP", SECCOMP_RET_TRAP},
                                                        {"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW},
                                                        {"SCMP_ACT_LOG", SECCOMP_RET_LOG},
                                                        {"SCMP_ACT_NOTIFY", SECCOMP_RET_USER_NOTIF}};
  bool carries = name == "SCMP_ACT_ERRNO" || name == "SCMP_ACT_TRACE";
  if (errno_ret && !carries)
    return make_error(EINVAL, "{}: errnoRet is only for SCMP_ACT_ERRNO and SCMP_ACT_TRACE, not for {}", where, name);
  uint32_t value = errno_ret.value_or(EPERM);
  // The kernel takes 4095 at most for an errno and returns a trace's data as 16 bits.
  if (carries && value > (name == "SCMP_ACT_ERRNO" ? 4095u : 65535u))
    return make_error(EINVAL, "{}: errnoRet {} is too large", where, value);
  if (name == "SCMP_ACT_ERRNO") return SECCOMP_RET_ERRNO | value;
  if (name == "SCMP_ACT_TRACE") return SECCOMP_RET_TRACE | value;
  auto found = plain.find(name);
  if (found == plain.end()) return make_error(EINVAL, "{}: unknown action \"{}\"", where, name);
  return found->second;
}

Result<SeccompCompare> operator_of(const std::string& name, const std::string& where) {
  static const std::map<std::string, SeccompCompare> operators = {
      {"SCMP_CMP_NE", SeccompCompare::NotEqual},          {"SCMP_CMP_LT", SeccompCompare::Less},
      {"SCMP_CMP_LE", SeccompCompare::LessOrEqual},       {"SCMP_CMP_EQ", SeccompCompare::Equal},
      {"SCMP_CMP_GE", SeccompCompare::GreaterOrEqual},    {"SCMP_CMP_GT", SeccompCompare::Greater},
      {"SCMP_CMP_MASKED_EQ", SeccompCompare::MaskedEqual}};
  auto found = operators.find(name);
  if (found == operators.end()) return make_error(EINVAL, "{}.op: unknown operator \"{}\"", where, name);
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
  return std::any_of(seccomp.syscalls.begin(), seccomp.syscalls.end(),
                     [](const oci::SeccompSyscall& rule) { return rule.action == "SCMP_ACT_NOTIFY"; });
}

// A notified write would leave the caller unable to tell anybody (runc's rule, and crun's).
Result<void> check_notify(const oci::Seccomp& seccomp) {
  if (seccomp.default_action == "SCMP_ACT_NOTIFY") return make_error(EINVAL, "linux.seccomp.defaultAction: must not be SCMP_ACT_NOTIFY");
  for (size_t i = 0; i < seccomp.syscalls.size(); ++i) {
    const oci::SeccompSyscall& rule = seccomp.syscalls[i];
    if (rule.action == "SCMP_ACT_NOTIFY" && std::find(rule.names.begin(), rule.names.end(), "write") != rule.names.end())
      return make_error(EINVAL, "linux.seccomp.syscalls[{}]: SCMP_ACT_NOTIFY must not be used for the write system call", i);
  }
  if (uses_notify(seccomp) && seccomp.listener_path.empty())
    return make_error(EINVAL, "linux.seccomp.listenerPath: must be set when SCMP_ACT_NOTIFY is used");
  if (!uses_notify(seccomp) && !seccomp.listener_path.empty())
    return make_error(EINVAL, "linux.seccomp.listenerPath: is set, but no rule uses SCMP_ACT_NOTIFY");
  return {};
}

Result<std::vector<SeccompCheck>> checks_of(const oci::SeccompSyscall& rule, const std::string& where) {
  std::vector<SeccompCheck> checks;
  for (size_t i = 0; i < rule.args.size(); ++i) {
    const oci::SeccompArg& arg = rule.args[i];
    std::string here = fmt::format("{}.args[{}]", where, i);
    if (arg.index > 5) return make_error(EINVAL, "{}.index: must be a number from 0 to 5, is {}", here, arg.index);
    SeccompCompare compare = TRY(operator_of(arg.op, here));
    checks.push_back(SeccompCheck{arg.index, compare, arg.value, arg.value_two});
  }
  return checks;
}

// All checks must hold; but where one argument is compared twice the comparisons are alternatives, as runc has them.
std::vector<SeccompRule> rules_of(uint32_t answer, const std::vector<SeccompCheck>& checks) {
  std::set<uint32_t> indexes;
  for (const SeccompCheck& check : checks) indexes.insert(check.index);
  if (indexes.size() == checks.size()) return {SeccompRule{answer, checks}};
  std::vector<SeccompRule> rules;
  for (const SeccompCheck& check : checks) rules.push_back(SeccompRule{answer, {check}});
  return rules;
}

Result<std::vector<SeccompArchitecture>> compile_rules(const oci::Seccomp& seccomp, uint32_t default_answer) {
  std::vector<SeccompTarget> targets = TRY(seccomp_targets(seccomp.architectures));
  std::vector<SeccompArchitecture> architectures;
  for (const SeccompTarget& target : targets) architectures.push_back(target.architecture);
  for (size_t i = 0; i < seccomp.syscalls.size(); ++i) {
    const oci::SeccompSyscall& rule = seccomp.syscalls[i];
    std::string where = fmt::format("linux.seccomp.syscalls[{}]", i);
    if (rule.names.empty()) return make_error(EINVAL, "{}.names: must not be empty", where);
    uint32_t answer = TRY(action_of(rule.action, rule.errno_ret, where));
    std::vector<SeccompRule> rules = rules_of(answer, TRY(checks_of(rule, where)));
    for (const std::string& name : rule.names) {
      bool known = false;
      for (size_t k = 0; k < targets.size(); ++k)
        known |= add_seccomp_call(targets[k], name, rules, answer != default_answer, architectures[k]);
      if (!known) log::debug("{}: the system call \"{}\" is not known and is left out", where, name);
    }
  }
  return architectures;
}

// A call younger than the profile should look missing, so that programs fall back on an older one, and not forbidden (runc does so too).
uint32_t answer_to_unknown(uint32_t default_answer) {
  return default_answer == SECCOMP_RET_ALLOW || default_answer == SECCOMP_RET_LOG ? default_answer : SECCOMP_RET_ERRNO | ENOSYS;
}

}  // namespace

Result<SeccompFilter> compile_seccomp(const oci::Seccomp& seccomp) {
  SeccompFilter compiled;
  compiled.flags = TRY(flags_of(seccomp));
  TRY(check_notify(seccomp));
  compiled.wants_listener = uses_notify(seccomp);
  if (seccomp.default_errno_ret && seccomp.default_action != "SCMP_ACT_ERRNO" && seccomp.default_action != "SCMP_ACT_TRACE")
    return make_error(EINVAL, "linux.seccomp.defaultErrnoRet: is only for SCMP_ACT_ERRNO and SCMP_ACT_TRACE, not for {}",
                      seccomp.default_action);
  uint32_t action = TRY(action_of(seccomp.default_action, seccomp.default_errno_ret, "linux.seccomp.defaultAction"));
  std::vector<SeccompArchitecture> architectures = TRY(compile_rules(seccomp, action));
  compiled.program = seccomp_program(architectures, action, answer_to_unknown(action));
  if (compiled.program.size() > BPF_MAXINSNS)
    return make_error(EINVAL, "linux.seccomp: the filter has {} instructions, the kernel takes {} at most", compiled.program.size(),
                      BPF_MAXINSNS);
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
