// The "process" object (config.md, "Process").
#include "base/log.h"
#include "oci/names.h"
#include "oci/sections.h"

namespace caisson::oci {
namespace {

void parse_user(const Node& node, User& user) {
  node["uid"].read(user.uid);
  node["gid"].read(user.gid);
  node["umask"].read(user.umask, 0, 0777);
  node["additionalGids"].each([&](const Node& gid) { gid.required().read(user.additional_gids.emplace_back()); });
}

void parse_console_size(const Node& node, std::optional<ConsoleSize>& size) {
  if (!node.present()) return;
  size.emplace();
  node["height"].required().read(size->height, 0, UINT16_MAX);
  node["width"].required().read(size->width, 0, UINT16_MAX);
}

// A capability this build does not know is left out with a warning, as runc does: a newer engine's list still works, with less privilege.
void parse_capability_set(const Node& node, std::vector<std::string>& set, std::vector<std::string>& unknown) {
  std::vector<std::string> names;
  node.read(names);
  for (std::string& name : names) {
    if (find_name(kCapabilities, name)) {
      set.push_back(std::move(name));
    } else if (std::find(unknown.begin(), unknown.end(), name) == unknown.end()) {
      unknown.push_back(std::move(name));
    }
  }
}

void parse_capabilities(const Node& node, std::optional<Capabilities>& capabilities) {
  if (!node.present()) return;
  Capabilities& sets = capabilities.emplace();
  std::vector<std::string> unknown;
  parse_capability_set(node["bounding"], sets.bounding, unknown);
  parse_capability_set(node["effective"], sets.effective, unknown);
  parse_capability_set(node["inheritable"], sets.inheritable, unknown);
  parse_capability_set(node["permitted"], sets.permitted, unknown);
  parse_capability_set(node["ambient"], sets.ambient, unknown);
  if (unknown.empty() || node.reading().failed()) return;
  log::warning("{}: {}: unknown capabilities are ignored: {}", node.reading().document(), node.path(),
               excerpt(fmt::format("{}", fmt::join(unknown, ", "))));
}

void parse_rlimits(const Node& node, std::vector<Rlimit>& rlimits) {
  node.each([&](const Node& element) {
    Rlimit limit;
    element["type"].required().read(limit.type);
    element["soft"].required().read(limit.soft);
    element["hard"].required().read(limit.hard);
    check_name(element["type"], limit.type, names_of(kRlimits));
    for (const Rlimit& other : rlimits)
      if (other.type == limit.type) element["type"].fail_value("must be given once");
    if (limit.soft > limit.hard) element["soft"].fail(fmt::format("must be at most the hard limit, {}, is {}", limit.hard, limit.soft));
    rlimits.push_back(std::move(limit));
  });
}

// sched_setattr(2) says which members go with which policy.
void parse_scheduler(const Node& node, std::optional<Scheduler>& out) {
  if (!node.present()) return;
  Scheduler& scheduler = out.emplace();
  node["policy"].required().read(scheduler.policy);
  check_name(node["policy"], scheduler.policy, names_of(kSchedulerPolicies));
  node["nice"].read(scheduler.nice, -20, 19);
  node["priority"].read(scheduler.priority, 0, 99);
  node["flags"].read(scheduler.flags);
  node["flags"].each([&](const Node& flag) {
    std::string name;
    flag.read(name);
    check_name(flag, name, names_of(kSchedulerFlags));
  });
  node["runtime"].read(scheduler.runtime);
  node["deadline"].read(scheduler.deadline);
  node["period"].read(scheduler.period);

  bool realtime = scheduler.policy == "SCHED_FIFO" || scheduler.policy == "SCHED_RR";
  if (scheduler.priority != 0 && !realtime) node["priority"].fail("goes with the policies SCHED_FIFO and SCHED_RR only");
  if (scheduler.priority == 0 && realtime) node["priority"].fail("must be a number from 1 to 99 with the policies SCHED_FIFO and SCHED_RR");
  bool deadline = scheduler.policy == "SCHED_DEADLINE";
  for (const char* name : {"runtime", "deadline", "period"}) {
    uint64_t value = 0;
    node[name].read(value);
    if (value != 0 && !deadline) node[name].fail("goes with the policy SCHED_DEADLINE only");
  }
}

void parse_io_priority(const Node& node, std::optional<IoPriority>& out) {
  if (!node.present()) return;
  IoPriority& priority = out.emplace();
  node["class"].required().read(priority.class_name);
  check_name(node["class"], priority.class_name, names_of(kIoPriorityClasses));
  node["priority"].read(priority.priority, 0, 7);
}

void parse_affinity(const Node& node, std::optional<ExecCpuAffinity>& out) {
  if (!node.present()) return;
  ExecCpuAffinity& affinity = out.emplace();
  node["initial"].read(affinity.initial);
  node["final"].read(affinity.final_);
  if (!affinity.initial.empty() && !is_cpu_list(affinity.initial)) node["initial"].fail_value("must be a list of CPUs like \"0-3,7\"");
  if (!affinity.final_.empty() && !is_cpu_list(affinity.final_)) node["final"].fail_value("must be a list of CPUs like \"0-3,7\"");
}

}  // namespace

void parse_process(const Node& node, Process& process) {
  node["terminal"].read(process.terminal);
  parse_console_size(node["consoleSize"], process.console_size);
  parse_user(node["user"], process.user);

  Node args = node["args"];
  args.required().read(process.args);
  if (process.args.empty()) args.fail("must have at least one entry, the program");
  if (!process.args.empty() && process.args[0].empty()) args.fail("the program's name must not be empty");
  node["commandLine"].read(process.command_line);

  node["env"].read(process.env);
  node["env"].each([](const Node& element) {
    std::string entry;
    element.read(entry);
    if (entry.find('=') == std::string::npos || entry.starts_with('=')) element.fail_value("must be NAME=value");
  });

  node["cwd"].required().read(process.cwd);
  node["cwd"].check_absolute(process.cwd);
  parse_capabilities(node["capabilities"], process.capabilities);
  parse_rlimits(node["rlimits"], process.rlimits);
  node["noNewPrivileges"].read(process.no_new_privileges);
  node["apparmorProfile"].read(process.apparmor_profile);
  node["oomScoreAdj"].read(process.oom_score_adj, -1000, 1000);
  node["selinuxLabel"].read(process.selinux_label);
  parse_scheduler(node["scheduler"], process.scheduler);
  parse_io_priority(node["ioPriority"], process.io_priority);
  parse_affinity(node["execCPUAffinity"], process.exec_cpu_affinity);
}

}  // namespace caisson::oci
