#include "sandbox/local/observe.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <charconv>
#include <vector>

#include "base/utf8.h"
#include "host/files.h"
#include "sandbox/local/events.h"
#include "sandbox/local/terminal_name.h"

namespace caisson::sandbox::local {
namespace {

// CLOCK_REALTIME when the machine started, in nanoseconds: btime of /proc/stat has whole seconds only, as ps(1) uses it.
int64_t boot_unix_nanos() {
  timespec now{}, up{};
  clock_gettime(CLOCK_REALTIME, &now);
  clock_gettime(CLOCK_BOOTTIME, &up);
  return (int64_t{now.tv_sec} - up.tv_sec) * 1'000'000'000 + now.tv_nsec - up.tv_nsec;
}

std::string command_line(pid_t pid, const std::string& name) {
  auto bytes = host::read_file(fmt::format("/proc/{}/cmdline", pid), 1 << 20);
  if (!bytes || bytes->empty()) return fmt::format("[{}]", name);
  while (!bytes->empty() && bytes->back() == '\0') bytes->pop_back();
  for (char& byte : *bytes)
    if (byte == '\0') byte = ' ';
  return std::move(*bytes);
}

// One process; nothing if it has ended.
std::optional<v1::ListProcessesResponse::Process> read_process(pid_t pid, int64_t boot, long ticks) {
  auto stat_text = host::read_file(fmt::format("/proc/{}/stat", pid), 4096);
  struct stat owner {};
  if (!stat_text || stat(fmt::format("/proc/{}", pid).c_str(), &owner) != 0) return std::nullopt;
  const size_t name_begin = stat_text->find('('), name_end = stat_text->rfind(')');
  if (name_begin == std::string::npos || name_end == std::string::npos) return std::nullopt;
  std::vector<std::string_view> fields;  // [0] is field 3
  for (size_t begin = name_end + 2; begin < stat_text->size();) {
    const size_t end = std::min(stat_text->find(' ', begin), stat_text->size());
    fields.emplace_back(stat_text->data() + begin, end - begin);
    begin = end + 1;
  }
  if (fields.size() < 20) return std::nullopt;
  auto number = [&](size_t field) {
    int64_t value = 0;
    std::from_chars(fields[field - 3].data(), fields[field - 3].data() + fields[field - 3].size(), value);
    return value;
  };
  v1::ListProcessesResponse::Process process;
  process.set_pid(pid);
  process.set_state(std::string(fields[0]));
  process.set_ppid(static_cast<int32_t>(number(4)));
  process.set_tty(terminal_name(static_cast<int>(number(7))));
  process.set_cpu_nanos(static_cast<uint64_t>(number(14) + number(15)) * (1'000'000'000 / static_cast<uint64_t>(ticks)));
  process.set_started_at_unix_nanos(boot + number(22) * (1'000'000'000 / ticks));
  process.set_uid(owner.st_uid);
  process.set_command(printable(command_line(pid, stat_text->substr(name_begin + 1, name_end - name_begin - 1))));
  return process;
}

}  // namespace

Result<v1::ListProcessesResponse> read_processes(const container::Record& record, const std::map<pid_t, std::string>& names) {
  const std::vector<pid_t> pids = TRY(container::processes(record));
  const int64_t boot = boot_unix_nanos();
  const long ticks = sysconf(_SC_CLK_TCK);
  v1::ListProcessesResponse response;
  for (pid_t pid : pids) {
    auto process = read_process(pid, boot, ticks);
    if (!process) continue;
    if (auto name = names.find(pid); name != names.end()) process->set_exec_id(name->second);
    *response.add_processes() = std::move(*process);
  }
  return response;
}

Result<v1::StatsResponse> read_stats(const container::Record& record) {
  const host::CgroupStats stats = TRY(host::cgroup_stats(record.cgroup));
  v1::StatsResponse response;
  response.set_sampled_at_unix_nanos(unix_nanos_now());
#define CAISSON_COPY(member) response.set_##member(stats.member)
  CAISSON_COPY(cpu_usage_nanos);
  CAISSON_COPY(cpu_user_nanos);
  CAISSON_COPY(cpu_system_nanos);
  CAISSON_COPY(cpu_periods);
  CAISSON_COPY(cpu_throttled_periods);
  CAISSON_COPY(cpu_throttled_nanos);
  CAISSON_COPY(memory_usage_bytes);
  CAISSON_COPY(memory_max_usage_bytes);
  CAISSON_COPY(memory_limit_bytes);
  CAISSON_COPY(memory_cache_bytes);
  CAISSON_COPY(memory_rss_bytes);
  CAISSON_COPY(memory_inactive_file_bytes);
  CAISSON_COPY(memory_swap_usage_bytes);
  CAISSON_COPY(memory_swap_limit_bytes);
  CAISSON_COPY(memory_failcnt);
  CAISSON_COPY(oom_kills);
  CAISSON_COPY(pids_current);
  CAISSON_COPY(pids_limit);
#undef CAISSON_COPY
  for (uint64_t nanos : stats.cpu_per_cpu_nanos) response.add_cpu_per_cpu_nanos(nanos);
  auto copy_blkio = [](const std::vector<host::CgroupStats::Blkio>& from, auto* to) {
    for (const auto& entry : from) {
      auto* copy = to->Add();
      copy->set_major(entry.major);
      copy->set_minor(entry.minor);
      copy->set_op(entry.op);
      copy->set_value(entry.value);
    }
  };
  copy_blkio(stats.io_service_bytes, response.mutable_io_service_bytes());
  copy_blkio(stats.io_serviced, response.mutable_io_serviced());
  for (const auto& entry : stats.hugetlb) {
    auto* copy = response.add_hugetlb();
    copy->set_page_size(entry.page_size);
    copy->set_usage(entry.usage);
    copy->set_max(entry.max);
    copy->set_failcnt(entry.failcnt);
  }
  for (const auto& [name, value] : stats.memory_raw) (*response.mutable_memory_raw())[name] = value;
  return response;
}

}  // namespace caisson::sandbox::local
