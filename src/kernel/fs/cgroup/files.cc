// The files of control groups (cgroups(7)), one row each.
#include <inttypes.h>
#include <limits.h>

#include <algorithm>
#include <charconv>

#include "base/text.h"
#include "kernel/fs/cgroup/cgroup_fs.h"
#include "kernel/fs/common/text.h"
#include "kernel/limits.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {
namespace {

using Opener = CgroupFileRow::Opener;

constexpr std::pair<const char*, unsigned> kControllers[] = {
    {"cpuset", Cgroup::Cpuset}, {"cpu", Cgroup::Cpu}, {"memory", Cgroup::Memory}, {"pids", Cgroup::Pids}};

std::string controllers_text(unsigned controllers) {
  std::string text;
  for (const auto& [name, bit] : kControllers)
    if ((controllers & bit) != 0) text += (text.empty() ? "" : " ") + std::string(name);
  return text.empty() ? text : text + "\n";
}

// Numbers that may be "max". EINVAL: no number; `beyond`: less than 0, or too much.
std::string limit_text(size_t limit) { return (limit == Cgroup::kNoLimit ? "max" : std::to_string(limit)) + "\n"; }
Result<size_t> parse_limit(std::string_view text, int64_t most, int beyond = ERANGE) {
  if (text == "max") return Cgroup::kNoLimit;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size() || error == std::errc::invalid_argument) return Errno(EINVAL);
  if (error != std::errc() || value < 0 || value > most) return Errno(beyond);
  return static_cast<size_t>(value);
}

Result<std::string> read_controllers(Task& task, Cgroup& group) {
  std::lock_guard guard(task.kernel.tasks);
  return controllers_text(group.controllers());
}

Result<std::string> read_subtree_control(Task& task, Cgroup& group) {
  std::lock_guard guard(task.kernel.tasks);
  return controllers_text(group.subtree_control);
}

Result<void> write_subtree_control(Task& task, const CgroupRef& group, std::string_view text, const Opener&) {
  unsigned enable = 0, disable = 0;
  for (const std::string_view word : split_fields(text, ' ')) {
    if (word.empty()) continue;
    const auto known = std::ranges::find(kControllers, word.substr(1), [](const auto& each) { return std::string_view(each.first); });
    if (known == std::end(kControllers) || (word[0] != '+' && word[0] != '-')) return Errno(EINVAL);
    (word[0] == '+' ? enable : disable) |= known->second;
    (word[0] == '+' ? disable : enable) &= ~known->second;
  }
  std::lock_guard guard(task.kernel.tasks);
  return group->control_subtree_locked(enable, disable);
}

Result<std::string> read_events(Task& task, Cgroup& group) {
  std::lock_guard guard(task.kernel.tasks);
  return std::string("populated ") + (group.processes != 0 ? "1" : "0") + "\nfrozen " + (group.told_frozen ? "1" : "0") + "\n";
}

Result<std::string> read_stat(Task& task, Cgroup& group) {
  std::lock_guard guard(task.kernel.tasks);
  return "nr_descendants " + std::to_string(group.descendants) + "\nnr_dying_descendants 0\n";
}

Result<std::string> read_type(Task&, Cgroup&) { return std::string("domain\n"); }
Result<void> write_type(Task&, const CgroupRef&, std::string_view text, const Opener&) {
  return text == "threaded" ? Errno(EOPNOTSUPP) : Errno(EINVAL);
}

// In numbers of the reader's PID namespace; 0: it cannot see that one.
Result<std::string> read_processes(Task& task, Cgroup& group) {
  std::string text;
  std::lock_guard guard(task.kernel.tasks);
  for (const auto& [pid, process] : group.container.pids->groups)
    if (!process->zombie && process->cgroup.get() == &group) append_format(text, "%d\n", process->id->in(*task.group->pids));
  return text;
}

Result<std::string> read_threads(Task& task, Cgroup& group) {
  std::string text;
  std::lock_guard guard(task.kernel.tasks);
  for (const auto& [tid, each] : group.container.pids->tasks)
    if (each->group->cgroup.get() == &group) append_format(text, "%d\n", each->id->in(*task.group->pids));
  return text;
}

// The process of a number, or of a thread's; 0: the writer's own.
Result<std::shared_ptr<ThreadGroup>> process_of(Task& task, std::string_view text) {
  pid_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) return Errno(EINVAL);
  if (number == 0) return task.group;
  std::lock_guard guard(task.kernel.tasks);
  const PidNamespace& pids = *task.group->pids;
  if (const auto found = pids.groups.find(number); found != pids.groups.end()) return found->second;
  if (const auto found = pids.tasks.find(number); found != pids.tasks.end()) return found->second->group;
  return Errno(ESRCH);
}

Result<void> write_processes(Task& task, const CgroupRef& group, std::string_view text, const Opener& opener) {
  return move_process(task, *opener.creds, *opener.view, TRY(process_of(task, text)), group);
}

// Threads of one process are in one group.
Result<void> write_threads(Task& task, const CgroupRef& group, std::string_view text, const Opener&) {
  const std::shared_ptr<ThreadGroup> process = TRY(process_of(task, text));
  std::lock_guard guard(task.kernel.tasks);
  return process->cgroup == group ? Result<void>() : Errno(EOPNOTSUPP);
}

template <size_t Cgroup::*kMember>
Result<std::string> read_limit(Task& task, Cgroup& group) {
  std::lock_guard guard(task.kernel.tasks);
  return limit_text(group.*kMember);
}
template <size_t Cgroup::*kMember>
Result<void> write_limit(Task& task, const CgroupRef& group, std::string_view text, const Opener&) {
  const size_t limit = TRY(parse_limit(text, INT_MAX));
  std::lock_guard guard(task.kernel.tasks);
  (*group).*kMember = limit;
  return {};
}

Result<std::string> read_freeze(Task& task, Cgroup& group) {
  std::lock_guard guard(task.kernel.tasks);
  return std::string(group.freeze ? "1\n" : "0\n");
}
Result<void> write_freeze(Task& task, const CgroupRef& group, std::string_view text, const Opener&) {
  if (TRY(parse_limit(text, INT_MAX)) > 1) return Errno(ERANGE);
  std::lock_guard guard(task.kernel.tasks);
  group->set_freeze_locked(text == "1");
  return {};
}

Result<void> write_kill(Task& task, const CgroupRef& group, std::string_view text, const Opener&) {
  if (TRY(parse_limit(text, INT_MAX)) != 1) return Errno(ERANGE);
  std::lock_guard guard(task.kernel.tasks);
  group->kill_locked();
  return {};
}

Result<std::string> read_cpu_stat(Task& task, Cgroup& group) {
  const CpuUse use = cpu_use(task, group);
  const uint64_t user = use.user_ns / 1000, system = (use.system_ns + use.kernel_ns) / 1000;
  std::string text;
  append_format(text, "usage_usec %" PRIu64 "\nuser_usec %" PRIu64 "\nsystem_usec %" PRIu64 "\n", user + system, user, system);
  // Throttling is the node's to know.
  return group.parent ? text : text + "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n";
}

Result<std::string> read_pids(Task& task, Cgroup& group) {
  std::lock_guard guard(task.kernel.tasks);
  return std::to_string(group.tasks) + "\n";
}
Result<std::string> read_pids_max(Task& task, Cgroup& group) {
  if (!group.parent) {
    const int64_t most = group.container.limits().pids;
    return limit_text(most < 0 ? Cgroup::kNoLimit : static_cast<size_t>(most));
  }
  return read_limit<&Cgroup::most_tasks>(task, group);
}
Result<std::string> read_pids_events(Task& task, Cgroup& group) {
  std::lock_guard guard(task.kernel.tasks);
  return "max " + std::to_string(group.refused_tasks) + "\n";
}

// As far as the kernel process knows it: what its processes have for themselves; of the container as a whole also what it holds for them.
Result<std::string> read_memory(Task& task, Cgroup& group) {
  return std::to_string(guest_memory(task, group) + (group.parent ? 0 : group.container.held->used())) + "\n";
}
Result<std::string> read_memory_stat(Task& task, Cgroup& group) {
  const std::string anonymous = "anon " + std::to_string(guest_memory(task, group)) + "\n";
  if (group.parent) return anonymous;
  const std::string held = std::to_string(group.container.held->used());
  return anonymous + "file " + held + "\nshmem " + held + "\ninactive_file 0\nactive_file 0\n";
}

Result<void> write_pids_max(Task& task, const CgroupRef& group, std::string_view text, const Opener&) {
  const size_t limit = TRY(parse_limit(text, 4'194'303, EINVAL));
  std::lock_guard guard(task.kernel.tasks);
  group->most_tasks = limit;
  return {};
}

// Of the container as a whole: what config.json says.
template <typename Show>
Result<std::string> shown(Cgroup& group, Show&& show) {
  return show(group.container.limits()) + "\n";
}
std::string or_max(int64_t value) { return value < 0 ? "max" : std::to_string(value); }
Result<std::string> read_cpu_max(Task&, Cgroup& group) {
  return shown(group, [](const CgroupLimits& l) { return or_max(l.cpu_quota) + " " + std::to_string(l.cpu_period); });
}
Result<std::string> read_cpu_weight(Task&, Cgroup& group) {
  return shown(group, [](const CgroupLimits& l) { return std::to_string(l.cpu_weight); });
}
Result<std::string> read_cpus(Task&, Cgroup&) { return cpu_list_text(usable_cpus()); }
Result<std::string> read_memory_max(Task&, Cgroup& group) {
  return shown(group, [](const CgroupLimits& l) { return or_max(l.memory); });
}
Result<std::string> read_memory_low(Task&, Cgroup& group) {
  return shown(group, [](const CgroupLimits& l) { return std::to_string(l.memory_low); });
}
Result<std::string> read_swap_max(Task&, Cgroup& group) {
  return shown(group, [](const CgroupLimits& l) { return or_max(l.swap); });
}

template <const char* kText>
Result<std::string> fixed(Task&, Cgroup&) {
  return std::string(kText);
}
constexpr char kNothing[] = "\n", kZero[] = "0\n", kMax[] = "max\n",
               kNoMemoryEvents[] = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n";

}  // namespace

const std::vector<CgroupFileRow> kCgroupFiles = {
    {.name = "cgroup.controllers", .mode = 0444, .read = read_controllers},
    {.name = "cgroup.events", .mode = 0444, .read = read_events},
    {.name = "cgroup.freeze", .mode = 0644, .read = read_freeze, .write = write_freeze},
    {.name = "cgroup.kill", .mode = 0200, .write = write_kill},
    {.name = "cgroup.max.depth",
     .mode = 0644,
     .read = read_limit<&Cgroup::deepest_descendant>,
     .write = write_limit<&Cgroup::deepest_descendant>},
    {.name = "cgroup.max.descendants",
     .mode = 0644,
     .read = read_limit<&Cgroup::most_descendants>,
     .write = write_limit<&Cgroup::most_descendants>},
    {.name = "cgroup.procs", .mode = 0644, .read = read_processes, .write = write_processes, .delegated = true},
    {.name = "cgroup.stat", .mode = 0444, .read = read_stat},
    {.name = "cgroup.subtree_control", .mode = 0644, .read = read_subtree_control, .write = write_subtree_control, .delegated = true},
    {.name = "cgroup.threads", .mode = 0644, .read = read_threads, .write = write_threads, .delegated = true},
    {.name = "cgroup.type", .mode = 0644, .read = read_type, .write = write_type},
    {.name = "cpu.stat", .mode = 0444, .read = read_cpu_stat},
    {.name = "pids.current", .mode = 0444, .controller = Cgroup::Pids, .read = read_pids},
    {.name = "pids.events", .mode = 0444, .controller = Cgroup::Pids, .read = read_pids_events},
    {.name = "pids.max", .mode = 0644, .controller = Cgroup::Pids, .read = read_pids_max, .write = write_pids_max},
    {.name = "memory.current", .mode = 0444, .controller = Cgroup::Memory, .read = read_memory},
    {.name = "memory.stat", .mode = 0444, .controller = Cgroup::Memory, .read = read_memory_stat},
    // The node's, for the container as a whole.
    {.name = "cpu.max", .mode = 0444, .where = CgroupFileRow::Root, .read = read_cpu_max},
    {.name = "cpu.weight", .mode = 0444, .where = CgroupFileRow::Root, .read = read_cpu_weight},
    {.name = "cpuset.cpus", .mode = 0444, .where = CgroupFileRow::Root, .read = fixed<kNothing>},
    {.name = "cpuset.cpus.effective", .mode = 0444, .where = CgroupFileRow::Root, .read = read_cpus},
    {.name = "cpuset.mems", .mode = 0444, .where = CgroupFileRow::Root, .read = fixed<kNothing>},
    {.name = "cpuset.mems.effective", .mode = 0444, .where = CgroupFileRow::Root, .read = fixed<kZero>},
    {.name = "memory.events", .mode = 0444, .where = CgroupFileRow::Root, .read = fixed<kNoMemoryEvents>},
    {.name = "memory.high", .mode = 0444, .where = CgroupFileRow::Root, .read = fixed<kMax>},
    {.name = "memory.low", .mode = 0444, .where = CgroupFileRow::Root, .read = read_memory_low},
    {.name = "memory.max", .mode = 0444, .where = CgroupFileRow::Root, .read = read_memory_max},
    {.name = "memory.min", .mode = 0444, .where = CgroupFileRow::Root, .read = fixed<kZero>},
    {.name = "memory.oom.group", .mode = 0444, .where = CgroupFileRow::Root, .read = fixed<kZero>},
    {.name = "memory.swap.current", .mode = 0444, .where = CgroupFileRow::Root, .read = fixed<kZero>},
    {.name = "memory.swap.max", .mode = 0444, .where = CgroupFileRow::Root, .read = read_swap_max},
};

}  // namespace caisson::kernel
