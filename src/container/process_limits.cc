#include "container/process_limits.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <string_view>

#include "base/log.h"
#include "host/files.h"
#include "oci/names.h"

namespace caisson::container {
namespace {

// sched_setattr(2)'s argument; the headers here have none.
struct SchedulerAttributes {
  uint32_t size = sizeof(SchedulerAttributes);
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0, deadline = 0, period = 0;
};

Result<void> apply_rlimits(pid_t pid, const oci::Process& process) {
  for (size_t index = 0; index < process.rlimits.size(); ++index) {
    const oci::Rlimit& limit = process.rlimits[index];
    const oci::NamedValue* row = oci::find_name(oci::kRlimits, limit.type);
    if (row == nullptr) return make_error(EINVAL, "process.rlimits[{}]: \"{}\" is not a resource limit", index, limit.type);
    const rlimit value{limit.soft, limit.hard};
    if (prlimit(pid, static_cast<__rlimit_resource>(row->value), &value, nullptr) != 0)
      return errno_error("process.rlimits[{}]: cannot set {} to {} (hard {})", index, limit.type, limit.soft, limit.hard);
  }
  return {};
}

Result<void> apply_oom_score(pid_t pid, const oci::Process& process) {
  if (!process.oom_score_adj) return {};
  const std::string text = std::to_string(*process.oom_score_adj);
  auto written = host::write_file(fmt::format("/proc/{}/oom_score_adj", pid), text);
  if (written) return {};
  if (written.error().code() != EACCES && written.error().code() != EPERM) return std::move(written).error().within("process.oomScoreAdj");
  auto now = host::read_file(fmt::format("/proc/{}/oom_score_adj", pid), 64);
  if (now && now->starts_with(text + "\n")) return {};
  log::warning("process.oomScoreAdj: {} is lower than this runtime may set; it stays as it is", text);
  return {};
}

Result<void> apply_scheduler(pid_t pid, const oci::Scheduler& scheduler) {
  const oci::NamedValue* policy = oci::find_name(oci::kSchedulerPolicies, scheduler.policy);
  if (policy == nullptr) return make_error(EINVAL, "process.scheduler.policy: \"{}\" is not a policy", scheduler.policy);
  SchedulerAttributes attributes;
  attributes.policy = static_cast<uint32_t>(policy->value);
  attributes.nice = scheduler.nice;
  attributes.priority = static_cast<uint32_t>(scheduler.priority);
  attributes.runtime = scheduler.runtime;
  attributes.deadline = scheduler.deadline;
  attributes.period = scheduler.period;
  for (const std::string& name : scheduler.flags) {
    const oci::NamedValue* flag = oci::find_name(oci::kSchedulerFlags, name);
    if (flag == nullptr) return make_error(EINVAL, "process.scheduler.flags: \"{}\" is not a flag", name);
    attributes.flags |= static_cast<uint64_t>(flag->value);
  }
  if (syscall(SYS_sched_setattr, pid, &attributes, 0) != 0) return errno_error("process.scheduler: cannot set {}", scheduler.policy);
  return {};
}

Result<void> apply_io_priority(pid_t pid, const oci::IoPriority& priority) {
  const oci::NamedValue* row = oci::find_name(oci::kIoPriorityClasses, priority.class_name);
  if (row == nullptr) return make_error(EINVAL, "process.ioPriority.class: \"{}\" is not a class", priority.class_name);
  constexpr int kWhoProcess = 1, kClassShift = 13;
  if (syscall(SYS_ioprio_set, kWhoProcess, pid, static_cast<int>(row->value) << kClassShift | priority.priority) != 0)
    return errno_error("process.ioPriority: cannot set {}", priority.class_name);
  return {};
}

// One part of a list of CPUs: "3", "0-7", or "0-31:2/8", the first two of every eight.
bool add_cpus(std::string_view part, cpu_set_t& cpus) {
  unsigned first = 0, last = 0, used = 1, group = 1;
  const char* at = part.data();
  const char* end = at + part.size();
  auto number = [&](unsigned& value) {
    const auto parsed = std::from_chars(at, end, value);
    at = parsed.ptr;
    return parsed.ec == std::errc() && value <= CPU_SETSIZE;
  };
  auto skip = [&](char letter) { return at != end && *at == letter && (++at, true); };
  if (!number(first)) return false;
  last = first;
  if (skip('-') && !number(last)) return false;
  if (skip(':') && !(number(used) && skip('/') && number(group) && group > 0)) return false;
  if (at != end || last < first || last >= CPU_SETSIZE) return false;
  for (unsigned cpu = first; cpu <= last; ++cpu)
    if ((cpu - first) % group < used) CPU_SET(cpu, &cpus);
  return true;
}

}  // namespace

Result<void> apply_affinity(pid_t pid, const std::string& list, std::string_view member) {
  if (list.empty()) return {};
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  const std::string_view text = list;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(',', start), text.size());
    if (!add_cpus(text.substr(start, end - start), cpus)) return make_error(EINVAL, "{}: \"{}\" is not a list of CPUs", member, list);
    start = end + 1;
  }
  if (sched_setaffinity(pid, sizeof cpus, &cpus) != 0) return errno_error("{}: cannot run on CPUs {}", member, list);
  return {};
}

Result<void> apply_process_limits(pid_t pid, const oci::Process& process) {
  TRY(apply_oom_score(pid, process));
  if (process.scheduler) TRY(apply_scheduler(pid, *process.scheduler));
  if (process.io_priority) TRY(apply_io_priority(pid, *process.io_priority));
  return apply_rlimits(pid, process);
}

}  // namespace caisson::container
