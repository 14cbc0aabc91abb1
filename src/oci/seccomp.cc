// "linux.seccomp" (config-linux.md, "Seccomp").
#include <algorithm>

#include "oci/names.h"
#include "oci/sections.h"

namespace caisson::oci {
namespace {

constexpr std::string_view kNotify = "SCMP_ACT_NOTIFY";

// errno is a 16-bit value in the kernel's filter return codes (SECCOMP_RET_DATA), and system calls return at most 4095.
void parse_errno(const Node& node, std::optional<uint32_t>& number, const std::string& action) {
  node.read(number, 0, 4095);
  if (number && action != "SCMP_ACT_ERRNO" && action != "SCMP_ACT_TRACE")
    node.fail(fmt::format("does not go with the action {}", excerpt(action)));
}

void parse_action(const Node& node, std::string& action) {
  node.required().read(action);
  check_name(node, action, kSeccompActions);
}

void parse_argument(const Node& node, SeccompArg& arg) {
  node["index"].required().read(arg.index, 0, 5);
  node["value"].required().read(arg.value);
  node["valueTwo"].read(arg.value_two);
  node["op"].required().read(arg.op);
  check_name(node["op"], arg.op, kSeccompOperators);
}

void parse_rule(const Node& node, SeccompSyscall& rule) {
  node["names"].required().read(rule.names);
  if (rule.names.empty()) node["names"].fail("must have at least one system call");
  parse_action(node["action"], rule.action);
  parse_errno(node["errnoRet"], rule.errno_ret, rule.action);
  node["args"].read_list(rule.args, parse_argument);
  // The runtime itself has to write(2) after the filter is in place: nobody would answer the notification.
  if (rule.action == kNotify && std::find(rule.names.begin(), rule.names.end(), "write") != rule.names.end())
    node["action"].fail("SCMP_ACT_NOTIFY cannot be used for the system call write");
}

void check_names(const Node& node, std::span<const std::string_view> names) {
  node.each([&](const Node& element) {
    std::string name;
    element.read(name);
    check_name(element, name, names);
  });
}

}  // namespace

void parse_seccomp(const Node& node, Seccomp& seccomp) {
  parse_action(node["defaultAction"], seccomp.default_action);
  if (seccomp.default_action == kNotify) node["defaultAction"].fail("SCMP_ACT_NOTIFY cannot be the default action");
  parse_errno(node["defaultErrnoRet"], seccomp.default_errno_ret, seccomp.default_action);
  node["architectures"].read(seccomp.architectures);
  check_names(node["architectures"], kSeccompArchitectures);
  node["flags"].read(seccomp.flags);
  check_names(node["flags"], names_of(kSeccompFlags));
  node["syscalls"].read_list(seccomp.syscalls, parse_rule);
  node["listenerPath"].read(seccomp.listener_path);
  node["listenerMetadata"].read(seccomp.listener_metadata);

  bool notifies =
      std::any_of(seccomp.syscalls.begin(), seccomp.syscalls.end(), [](const SeccompSyscall& rule) { return rule.action == kNotify; });
  if (!seccomp.listener_path.empty()) node["listenerPath"].check_absolute(seccomp.listener_path);
  if (notifies && seccomp.listener_path.empty()) node["listenerPath"].fail("must be given where the action SCMP_ACT_NOTIFY is used");
  if (!seccomp.listener_metadata.empty() && seccomp.listener_path.empty()) node["listenerMetadata"].fail("goes with listenerPath only");
}

}  // namespace caisson::oci
