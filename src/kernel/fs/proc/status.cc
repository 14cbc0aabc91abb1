// stat, status, statm, limits: a process's numbers.
#include <inttypes.h>
#include <stdio.h>

#include <algorithm>

#include "base/text.h"
#include "kernel/fs/proc/facts.h"
#include "kernel/platform/host_proc.h"
#include "kernel/stub/layout.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kTick = 10'000'000;                               // nanoseconds of USER_HZ 100
constexpr uint64_t kHiddenBytes = STUB_SLOTS_SIZE + STUB_BLOB_SIZE;  // of the kernel's own in each stub
constexpr uint64_t kPage = 4096;

uint64_t less_hidden(uint64_t value, uint64_t hidden) { return value > hidden ? value - hidden : 0; }

const char* state_name(char state) {
  switch (state) {
    case 'R':
      return "R (running)";
    case 'D':
      return "D (disk sleep)";
    case 'T':
      return "T (stopped)";
    case 't':
      return "t (tracing stop)";
    case 'Z':
      return "Z (zombie)";
    default:
      return "S (sleeping)";
  }
}

AddressSpace::Layout layout_of(const ProcFacts& facts) {
  if (!facts.memory) return {};
  std::lock_guard guard(facts.memory->lock);
  return facts.memory->layout;
}

std::string stat_line(const ProcFacts& facts, const std::optional<HostStat>& host, const AddressSpace::Layout& layout) {
  const auto field = [&](size_t number) -> uint64_t { return host ? host->fields[number] : 0; };
  const uint64_t user = field(14) + static_cast<uint64_t>(facts.usage.user_ns) / kTick;
  const uint64_t system = field(15) + static_cast<uint64_t>(facts.usage.system_ns) / kTick;
  std::string text;
  append_format(text, "%d (%s) %c %d %d %d %d %d %u %" PRIu64 " %ld %" PRIu64 " %ld", facts.tid, facts.name.c_str(),
                proc_state(facts, host), facts.parent, facts.pgid, facts.sid, facts.terminal, facts.foreground, 0x400000U,
                field(10) + static_cast<uint64_t>(facts.usage.minor_faults), facts.children_usage.minor_faults,
                field(12) + static_cast<uint64_t>(facts.usage.major_faults), facts.children_usage.major_faults);
  append_format(text, " %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %d %d %zu 0 %" PRId64, user, system,
                facts.children_usage.user_ns / static_cast<int64_t>(kTick), facts.children_usage.system_ns / static_cast<int64_t>(kTick),
                20 + facts.nice, facts.nice, facts.threads, facts.start_time / static_cast<int64_t>(kTick));
  append_format(text, " %" PRIu64 " %" PRIu64 " %" PRIu64, less_hidden(field(23), kHiddenBytes), field(24),
                static_cast<uint64_t>(facts.limits[RLIMIT_RSS].rlim_cur));
  append_format(text, " %" PRIu64 " %" PRIu64 " %" PRIu64 " 0 0", layout.start_code, layout.end_code, layout.start_stack);
  append_format(text, " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, facts.pending & 0x7fffffff, facts.blocked & 0x7fffffff,
                facts.ignored & 0x7fffffff, facts.caught & 0x7fffffff);
  append_format(text, " 0 0 0 %d %" PRIu64 " %d %d 0 0 0", facts.exit_signal, field(39), facts.scheduling.priority,
                facts.scheduling.policy);
  append_format(text, " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %d\n", layout.start_data,
                layout.end_data, layout.start_brk, layout.arg_start, layout.arg_end, layout.env_start, layout.env_end, facts.exit_status);
  return text;
}

// Lines of the host's status of the stub that are as true of the guest process; the sizes without what is the kernel's own.
std::string memory_lines(const ProcFacts& facts) {
  std::string result;
  if (facts.host_pid == 0) return result;
  const Result<std::string> host = read_host_proc((std::to_string(facts.host_pid) + "/status").c_str());
  if (!host) return result;
  for (const std::string_view line : split_fields(*host, '\n')) {
    if (line.starts_with("VmPeak:") || line.starts_with("VmSize:")) {
      const uint64_t kib = strtoull(std::string(line.substr(7)).c_str(), nullptr, 10);
      append_format(result, "%.7s\t%8" PRIu64 " kB\n", line.data(), less_hidden(kib, kHiddenBytes / 1024));
    } else if (line.starts_with("Vm") || line.starts_with("Rss") || line.starts_with("HugetlbPages") || line.starts_with("THP_enabled")) {
      result += std::string(line) + "\n";
    }
  }
  return result;
}

std::string scheduling_lines(const ProcFacts& facts) {
  std::string result;
  if (facts.host_pid == 0) return "voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n";
  const std::string path = std::to_string(facts.host_pid) + "/task/" + std::to_string(facts.host_tid) + "/status";
  const Result<std::string> host = read_host_proc(path.c_str());
  if (!host) return result;
  for (const char* key : {"Cpus_allowed:", "Cpus_allowed_list:", "Mems_allowed:", "Mems_allowed_list:", "voluntary_ctxt_switches:",
                          "nonvoluntary_ctxt_switches:"}) {
    const size_t at = host->find(std::string("\n") + key);
    if (at == host->npos) continue;
    result += host->substr(at + 1, host->find('\n', at + 1) - at);
  }
  return result;
}

}  // namespace

char proc_state(const ProcFacts& facts, const std::optional<HostStat>& host) {
  if (facts.zombie || facts.stopped) return facts.state;
  // In guest code the host knows best: a private futex is waited for natively.
  if (facts.in_guest && host && (host->state == 'R' || host->state == 'S' || host->state == 'D')) return host->state;
  return facts.state;
}

Result<std::string> proc_stat(Task& reader, const ProcSubject& subject) {
  const ProcFacts facts = TRY(gather(reader.kernel, subject));
  return stat_line(facts, read_host_stat(facts, subject.tid == 0), layout_of(facts));
}

Result<std::string> proc_status(Task& reader, const ProcSubject& subject) {
  const ProcFacts facts = TRY(gather(reader.kernel, subject));
  const std::optional<HostStat> host = read_host_stat(facts, false);
  const Credentials& creds = *facts.creds;
  std::string text;
  append_format(text, "Name:\t%s\nUmask:\t%04o\nState:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t0\n", facts.name.c_str(),
                facts.fs ? facts.fs->umask.load() : 0, state_name(proc_state(facts, host)), facts.pid, facts.tid, facts.parent);
  const auto user = [&](uid_t id) { return reader.creds->user->shown(UserNamespace::Ids::Users, id); };
  const auto group = [&](gid_t id) { return reader.creds->user->shown(UserNamespace::Ids::Groups, id); };
  append_format(text, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\n", user(creds.uid), user(creds.euid), user(creds.suid),
                user(creds.fsuid), group(creds.gid), group(creds.egid), group(creds.sgid), group(creds.fsgid));
  append_format(text, "FDSize:\t%d\nGroups:\t", facts.fds ? 64 : 0);
  for (const gid_t each : creds.groups) append_format(text, "%u ", group(each));
  static constexpr const char* kNumbers[] = {"\nNStgid:", "\nNSpid:", "\nNSpgid:", "\nNSsid:"};
  for (size_t i = 0; i < std::size(kNumbers); ++i) {
    text += kNumbers[i];
    for (const auto& numbers : facts.deeper) append_format(text, "\t%d", numbers[i]);
  }
  text += "\n";
  text += memory_lines(facts);
  append_format(text, "CoreDumping:\t0\nThreads:\t%zu\nSigQ:\t0/%" PRIu64 "\n", facts.threads,
                static_cast<uint64_t>(facts.limits[RLIMIT_SIGPENDING].rlim_cur));
  append_format(
      text, "SigPnd:\t%016" PRIx64 "\nShdPnd:\t%016" PRIx64 "\nSigBlk:\t%016" PRIx64 "\nSigIgn:\t%016" PRIx64 "\nSigCgt:\t%016" PRIx64 "\n",
      facts.pending, facts.shared_pending, facts.blocked, facts.ignored, facts.caught);
  append_format(
      text, "CapInh:\t%016" PRIx64 "\nCapPrm:\t%016" PRIx64 "\nCapEff:\t%016" PRIx64 "\nCapBnd:\t%016" PRIx64 "\nCapAmb:\t%016" PRIx64 "\n",
      creds.inheritable, creds.permitted, creds.effective, creds.bounding, creds.ambient);
  append_format(text, "NoNewPrivs:\t%d\nSeccomp:\t%d\nSeccomp_filters:\t%zu\nSpeculation_Store_Bypass:\tthread vulnerable\n",
                creds.no_new_privileges, facts.seccomp ? facts.seccomp->mode() : 0, facts.seccomp ? facts.seccomp->filter_count() : 0);
  return text + scheduling_lines(facts);
}

Result<std::string> proc_statm(Task& reader, const ProcSubject& subject) {
  const ProcFacts facts = TRY(gather(reader.kernel, subject));
  uint64_t values[7] = {};
  if (facts.host_pid != 0) {
    const Result<std::string> host = read_host_proc((std::to_string(facts.host_pid) + "/statm").c_str());
    if (host)
      sscanf(host->c_str(), "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &values[0], &values[1],
             &values[2], &values[3], &values[4], &values[5], &values[6]);
    values[0] = less_hidden(values[0], kHiddenBytes / kPage);
  }
  std::string text;
  append_format(text, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", values[0], values[1],
                values[2], values[3], values[4], values[5], values[6]);
  return text;
}

Result<std::string> proc_limits(Task& reader, const ProcSubject& subject) {
  struct Row {
    int resource;
    const char *name, *unit;
  };
  static constexpr Row kRows[] = {{RLIMIT_CPU, "Max cpu time", "seconds"},         {RLIMIT_FSIZE, "Max file size", "bytes"},
                                  {RLIMIT_DATA, "Max data size", "bytes"},         {RLIMIT_STACK, "Max stack size", "bytes"},
                                  {RLIMIT_CORE, "Max core file size", "bytes"},    {RLIMIT_RSS, "Max resident set", "bytes"},
                                  {RLIMIT_NPROC, "Max processes", "processes"},    {RLIMIT_NOFILE, "Max open files", "files"},
                                  {RLIMIT_MEMLOCK, "Max locked memory", "bytes"},  {RLIMIT_AS, "Max address space", "bytes"},
                                  {RLIMIT_LOCKS, "Max file locks", "locks"},       {RLIMIT_SIGPENDING, "Max pending signals", "signals"},
                                  {RLIMIT_MSGQUEUE, "Max msgqueue size", "bytes"}, {RLIMIT_NICE, "Max nice priority", ""},
                                  {RLIMIT_RTPRIO, "Max realtime priority", ""},    {RLIMIT_RTTIME, "Max realtime timeout", "us"}};
  const ProcFacts facts = TRY(gather(reader.kernel, subject));
  std::string text;
  append_format(text, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units");
  const auto show = [](rlim_t value) { return value == RLIM_INFINITY ? std::string("unlimited") : std::to_string(value); };
  for (const Row& row : kRows) {
    const rlimit& limit = facts.limits[static_cast<size_t>(row.resource)];
    append_format(text, "%-25s %-20s %-20s %-10s\n", row.name, show(limit.rlim_cur).c_str(), show(limit.rlim_max).c_str(), row.unit);
  }
  return text;
}

}  // namespace caisson::kernel
