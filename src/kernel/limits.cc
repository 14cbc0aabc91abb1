#include "kernel/limits.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>

#include "kernel/fs/common/text.h"
#include "kernel/platform/host_proc.h"
#include "kernel/task/current.h"
#include "kernel/task/kernel.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kPage = 4096;

}  // namespace

CgroupLimits cgroup_limits() {
  const Task* task = current_task();
  const Container* container = task != nullptr ? task->group->container : nullptr;
  return container != nullptr ? container->limits() : CgroupLimits();
}

bool limits_memory(const CgroupLimits& limits) {
  struct sysinfo info {};
  return limits.memory > 0 && ::sysinfo(&info) == 0 && static_cast<uint64_t>(limits.memory) < uint64_t{info.totalram} * info.mem_unit;
}

std::vector<int> visible_of(std::vector<int> cpus) {
  const CgroupLimits limits = cgroup_limits();
  if (limits.cpu_quota <= 0 || limits.cpu_period <= 0 || cpus.empty()) return cpus;
  const int64_t worth = std::max<int64_t>(1, (limits.cpu_quota - 1) / limits.cpu_period + 1);
  if (worth < static_cast<int64_t>(cpus.size())) cpus.resize(static_cast<size_t>(worth));
  return cpus;
}

std::vector<int> cpus_of_mask(const char* mask, size_t bytes) {
  std::vector<int> cpus;
  for (size_t bit = 0; bit < bytes * 8; ++bit)
    if ((mask[bit / 8] >> (bit % 8) & 1) != 0) cpus.push_back(static_cast<int>(bit));
  return cpus;
}

std::vector<int> usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(getpid(), sizeof set, &set) == 0) cpus = cpus_of_mask(reinterpret_cast<const char*>(&set), sizeof set);
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

std::vector<int> visible_cpus() { return visible_of(usable_cpus()); }

std::string cpu_list_text(const std::vector<int>& cpus) {
  std::string text;
  for (size_t i = 0; i < cpus.size();) {
    size_t end = i;
    while (end + 1 < cpus.size() && cpus[end + 1] == cpus[end] + 1) ++end;
    if (!text.empty()) text += ",";
    text += std::to_string(cpus[i]);
    if (end > i) text += "-" + std::to_string(cpus[end]);
    i = end + 1;
  }
  return text + "\n";
}

uint64_t container_memory(Task& task) {
  const Container* container = task.group->container;
  return (container != nullptr ? guest_memory(task, *container->groups) : 0) + held_memory()->used();
}

uint64_t guest_memory(Task& task, const Cgroup& of) {
  std::vector<pid_t> hosts;
  {
    std::lock_guard guard(task.kernel.tasks);
    for (const auto& [pid, group] : of.container.pids->groups)
      if (group->cgroup && group->cgroup->is_within(of) && !group->tasks.empty() && group->tasks.front()->stub)
        hosts.push_back(group->tasks.front()->host_tid());
  }
  uint64_t total = 0;
  for (const pid_t host : hosts) {
    const Result<std::string> text = read_host_proc((std::to_string(host) + "/statm").c_str());
    uint64_t size = 0, resident = 0, shared = 0;
    if (text && sscanf(text->c_str(), "%" SCNu64 " %" SCNu64 " %" SCNu64, &size, &resident, &shared) == 3 && resident > shared)
      total += (resident - shared) * kPage;
  }
  return total;
}

CpuUse cpu_use(Task& task, const Cgroup& group) {
  CpuUse use;
  {
    std::lock_guard guard(task.kernel.tasks);
    use = cpu_use_locked(group);
  }
  if (group.parent) return use;
  timespec own{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
  use.kernel_ns = static_cast<uint64_t>(own.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(own.tv_nsec);
  return use;
}

uint64_t memory_left(Task& task, int64_t limit) {
  const uint64_t used = container_memory(task), total = static_cast<uint64_t>(std::max<int64_t>(limit, 0));
  return total > used ? total - used : 0;
}

std::string limited_meminfo(Task& task, const CgroupLimits& limits) {
  const uint64_t total = static_cast<uint64_t>(limits.memory), left = memory_left(task, limits.memory), used = total - left;
  const uint64_t swap = limits.swap > 0 ? static_cast<uint64_t>(limits.swap) : 0;
  struct Row {
    const char* name;
    uint64_t bytes;
  };
  const Row rows[] = {{"MemTotal:", total},
                      {"MemFree:", left},
                      {"MemAvailable:", left},
                      {"Buffers:", 0},
                      {"Cached:", 0},
                      {"SwapCached:", 0},
                      {"Active:", used},
                      {"Inactive:", 0},
                      {"Active(anon):", used},
                      {"Inactive(anon):", 0},
                      {"Active(file):", 0},
                      {"Inactive(file):", 0},
                      {"Unevictable:", 0},
                      {"Mlocked:", 0},
                      {"SwapTotal:", swap},
                      {"SwapFree:", swap},
                      {"Dirty:", 0},
                      {"Writeback:", 0},
                      {"AnonPages:", used},
                      {"Mapped:", 0},
                      {"Shmem:", 0},
                      {"KReclaimable:", 0},
                      {"Slab:", 0},
                      {"SReclaimable:", 0},
                      {"SUnreclaim:", 0},
                      {"KernelStack:", 0},
                      {"PageTables:", 0},
                      {"CommitLimit:", total},
                      {"Committed_AS:", used},
                      {"VmallocTotal:", 34359738367ULL * 1024},
                      {"VmallocUsed:", 0},
                      {"VmallocChunk:", 0},
                      {"AnonHugePages:", 0}};
  std::string text;
  for (const Row& row : rows) append_format(text, "%-15s %8" PRIu64 " kB\n", row.name, row.bytes / 1024);
  for (const char* name : {"HugePages_Total:", "HugePages_Free:", "HugePages_Rsvd:", "HugePages_Surp:"})
    append_format(text, "%-15s %8d\n", name, 0);
  append_format(text, "%-15s %8d kB\n", "Hugepagesize:", 2048);
  return text;
}

std::string limited_cpuinfo(std::string_view host) {
  const std::vector<int> visible = visible_cpus();
  std::string text;
  while (!host.empty()) {
    const size_t end = std::min(host.find("\n\n"), host.size());
    const std::string_view block = host.substr(0, end);
    host.remove_prefix(std::min(host.size(), end + 2));
    const size_t colon = block.find(':');
    if (!block.starts_with("processor") || colon == block.npos) continue;
    const int number = atoi(std::string(block.substr(colon + 1, 16)).c_str());
    if (std::find(visible.begin(), visible.end(), number) != visible.end()) text += std::string(block) + "\n\n";
  }
  return text;
}

}  // namespace caisson::kernel
