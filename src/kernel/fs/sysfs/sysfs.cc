#include "kernel/fs/sysfs/sysfs.h"

#include <dirent.h>
#include <inttypes.h>

#include "base/text.h"
#include "kernel/fs/common/text.h"
#include "kernel/limits.h"
#include "kernel/net/network_namespace.h"
#include "kernel/platform/host_proc.h"
#include "kernel/task/kernel.h"
#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

// A file system whose tree is made by a function, once per mount.
class BuiltFileSystem : public FileSystem, public std::enable_shared_from_this<BuiltFileSystem> {
 public:
  BuiltFileSystem(const char* name, long magic, void (*build)(TreeBuilder&)) : name_(name), magic_(magic), build_(build) {}
  const char* name() const override { return name_; }
  Result<InodeRef> root() override {
    TreeBuilder tree(shared_from_this(), 1);
    build_(tree);
    return InodeRef(tree.root());
  }
  Result<struct statfs> stat_fs() override { return plain_statfs(magic_); }

 private:
  const char* name_;
  long magic_;
  void (*build_)(TreeBuilder&);
};

// "0-3,6"
std::string range_text(const std::vector<int>& cpus) {
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

std::string mask_text(const std::vector<int>& cpus) {
  std::vector<uint32_t> words(static_cast<size_t>(cpus.back()) / 32 + 1);
  for (const int cpu : cpus) words[static_cast<size_t>(cpu) / 32] |= 1U << (cpu % 32);
  std::string text;
  for (auto word = words.rbegin(); word != words.rend(); ++word) append_format(text, "%s%08x", text.empty() ? "" : ",", *word);
  return text + "\n";
}

void add_cpus(TreeBuilder& tree) {
  const std::vector<int> cpus = usable_cpus();
  const std::string range = range_text(cpus), mask = mask_text(cpus);
  const std::string folder = "devices/system/cpu/";
  // Those that may ever be seen in a thread's rseq area stay possible, whatever the quota is worth.
  for (const char* name : {"possible", "present"}) tree.text(folder + name, range);
  tree.file(folder + "online", [](Task&) -> Result<std::string> { return range_text(visible_cpus()); });
  tree.text(folder + "offline", "\n");
  tree.text(folder + "isolated", "\n");
  tree.text(folder + "kernel_max", "8191\n");
  tree.text(folder + "smt/active", "0\n");
  tree.text(folder + "smt/control", "notsupported\n");
  for (const int cpu : cpus) {
    const std::string own = folder + "cpu" + std::to_string(cpu) + "/";
    const std::string self = std::to_string(cpu) + "\n", self_mask = mask_text({cpu});
    if (cpu != 0) tree.text(own + "online", "1\n");
    tree.text(own + "topology/core_id", self);
    tree.text(own + "topology/physical_package_id", "0\n");
    tree.text(own + "topology/die_id", "0\n");
    for (const char* name : {"core_cpus_list", "thread_siblings_list"}) tree.text(own + "topology/" + name, self);
    for (const char* name : {"core_cpus", "thread_siblings"}) tree.text(own + "topology/" + name, self_mask);
    for (const char* name : {"core_siblings_list", "package_cpus_list"}) tree.text(own + "topology/" + name, range);
    for (const char* name : {"core_siblings", "package_cpus"}) tree.text(own + "topology/" + name, mask);
    tree.link(own + "node0", "../../node/node0");
  }
  tree.text("devices/system/node/online", "0\n");
  tree.text("devices/system/node/possible", "0\n");
  tree.text("devices/system/node/has_cpu", "0\n");
  tree.text("devices/system/node/has_memory", "0\n");
  tree.text("devices/system/node/node0/cpulist", range);
  tree.text("devices/system/node/node0/cpumap", mask);
  tree.text("devices/system/node/node0/distance", "10\n");
  tree.file("devices/system/node/node0/meminfo", [](Task& task) -> Result<std::string> {
    const CgroupLimits limits = cgroup_limits();
    const std::string host = limits_memory(limits) ? limited_meminfo(task, limits) : TRY(read_host_proc("meminfo"));
    std::string text;
    for (const std::string_view line : split_fields(host, '\n')) text.append("Node 0 ").append(line).push_back('\n');
    return text;
  });
}

// /sys/class/net/NAME: the interfaces of the network of who looks, as /proc/net/dev lists them.
class NetFolder : public MadeUpFolder {
 public:
  using MadeUpFolder::MadeUpFolder;
  Result<InodeRef> lookup(Task& task, std::string_view name) override {
    for (const std::string& each : TRY(names(task)))
      if (each == name) {
        TreeBuilder tree(fs(), 1ULL << 40 | std::hash<std::string>()(each) >> 24 << 8);
        const bool loopback = each == "lo";
        tree.text("address", loopback ? "00:00:00:00:00:00\n" : "02:00:00:00:00:00\n");
        tree.text("mtu", loopback ? "65536\n" : "1500\n");
        tree.text("operstate", loopback ? "unknown\n" : "up\n");
        tree.text("type", loopback ? "772\n" : "1\n");
        tree.text("carrier", "1\n");
        return InodeRef(tree.root());
      }
    return Errno(ENOENT);
  }
  Result<std::vector<ListedEntry>> list(Task& task, int64_t position) override {
    const std::vector<std::string> all = TRY(names(task));
    std::vector<ListedEntry> result;
    for (size_t i = static_cast<size_t>(std::max<int64_t>(position, 2) - 2); i < all.size(); ++i)
      result.push_back({all[i], 1ULL << 40 | std::hash<std::string>()(all[i]) >> 24 << 8, DT_DIR, static_cast<int64_t>(i) + 3});
    return result;
  }

 private:
  static Result<std::vector<std::string>> names(Task& task) {
    const std::string text = TRY(task.spaces->network->read_file(NetworkNamespace::Files::State, "dev"));
    std::vector<std::string> result;
    for (const std::string_view line : split_fields(text, '\n')) {
      const size_t colon = line.find(':');
      const size_t begin = line.find_first_not_of(' ');
      if (colon != line.npos && begin < colon) result.emplace_back(line.substr(begin, colon - begin));
    }
    return result;
  }
};

void build_sysfs(TreeBuilder& tree) {
  add_cpus(tree);
  tree.text("devices/system/clocksource/clocksource0/available_clocksource", "tsc\n");
  tree.text("devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
  tree.text("kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  tree.text("kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never\n");
  tree.text("kernel/mm/transparent_hugepage/shmem_enabled", "always within_size advise [never] deny force\n");
  tree.text("kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n");
  tree.text("kernel/mm/transparent_hugepage/use_zero_page", "1\n");
  for (const char* name : {"nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages", "nr_overcommit_hugepages"})
    tree.text(std::string("kernel/mm/hugepages/hugepages-2048kB/") + name, "0\n");
  tree.text("kernel/uevent_seqnum", "0\n");
  tree.text("kernel/profiling", "0\n");
  tree.text("power/state", "\n");
  tree.add("class/net", std::make_shared<NetFolder>(tree.fs(), tree.number()));
  for (const char* name : {"block", "bus", "class/block", "class/tty", "class/mem", "dev/block", "dev/char", "devices/virtual", "firmware",
                           "fs/cgroup", "hypervisor", "kernel/debug", "kernel/security", "kernel/tracing", "module"})
    (void)tree.folder(name);
}

std::string or_max(int64_t value) { return (value < 0 ? "max" : std::to_string(value)) + "\n"; }

TextInode::Read count_tasks(bool processes) {
  return [processes](Task& task) -> Result<std::string> {
    std::string text;
    std::lock_guard guard(task.kernel.tasks);
    const PidNamespace& pids = *task.group->pids;
    if (processes) {
      for (const auto& [pid, group] : pids.groups)
        if (!group->zombie && group->container == task.group->container) append_format(text, "%d\n", pid);
    } else {
      for (const auto& [tid, each] : pids.tasks)
        if (each->group->container == task.group->container) append_format(text, "%d\n", tid);
    }
    return text;
  };
}

// As far as the kernel process knows it: what its processes hold.
Result<std::string> read_memory(Task& task) { return std::to_string(container_memory(task)) + "\n"; }

// What the container's processes have used, those that have ended too, and what the kernel process did for them. Throttling is the node's
// to know.
Result<std::string> read_cpu(Task& task) {
  const CpuUse use = container_cpu(task);
  const uint64_t user = use.user_ns / 1000, system = use.system_ns / 1000;
  std::string text;
  append_format(text, "usage_usec %" PRIu64 "\nuser_usec %" PRIu64 "\nsystem_usec %" PRIu64 "\n", user + system, user, system);
  return text + "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n";
}

void build_cgroup(TreeBuilder& tree) {
  tree.text("cgroup.controllers", "cpuset cpu memory pids\n");
  tree.text("cgroup.subtree_control", "\n");
  tree.text("cgroup.type", "domain\n");
  tree.text("cgroup.max.depth", "max\n");
  tree.text("cgroup.max.descendants", "max\n");
  tree.text("cgroup.stat", "nr_descendants 0\nnr_dying_descendants 0\n");
  tree.text("cgroup.events", "populated 1\nfrozen 0\n");
  tree.text("cgroup.freeze", "0\n");
  tree.file("cgroup.procs", count_tasks(true));
  tree.file("cgroup.threads", count_tasks(false));
  const auto limit = [&](const char* name, std::string (*show)(const CgroupLimits&)) {
    tree.file(name, [show](Task&) -> Result<std::string> { return show(cgroup_limits()); });
  };
  limit("cpu.max", [](const CgroupLimits& l) {
    return (l.cpu_quota < 0 ? "max" : std::to_string(l.cpu_quota)) + " " + std::to_string(l.cpu_period) + "\n";
  });
  limit("cpu.weight", [](const CgroupLimits& l) { return std::to_string(l.cpu_weight) + "\n"; });
  tree.text("cpuset.cpus", "\n");
  tree.file("cpuset.cpus.effective", [](Task&) -> Result<std::string> { return range_text(usable_cpus()); });
  tree.text("cpuset.mems", "\n");
  tree.text("cpuset.mems.effective", "0\n");
  tree.file("cpu.stat", read_cpu);
  limit("memory.max", [](const CgroupLimits& l) { return or_max(l.memory); });
  tree.text("memory.high", "max\n");
  tree.text("memory.min", "0\n");
  limit("memory.low", [](const CgroupLimits& l) { return std::to_string(l.memory_low) + "\n"; });
  tree.file("memory.current", read_memory);
  limit("memory.swap.max", [](const CgroupLimits& l) { return or_max(l.swap); });
  tree.text("memory.swap.current", "0\n");
  tree.text("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n");
  tree.text("memory.oom.group", "0\n");
  tree.file("memory.stat", [](Task& task) -> Result<std::string> {
    const std::string held = std::to_string(held_memory()->used());
    return "anon " + std::to_string(guest_memory(task)) + "\nfile " + held + "\nshmem " + held + "\ninactive_file 0\nactive_file 0\n";
  });
  limit("pids.max", [](const CgroupLimits& l) { return or_max(l.pids); });
  tree.file("pids.current", [](Task& task) -> Result<std::string> {
    std::lock_guard guard(task.kernel.tasks);
    return std::to_string(task.group->container->live_tasks) + "\n";
  });
}

}  // namespace

Result<std::shared_ptr<FileSystem>> make_sysfs_file_system() {
  return std::shared_ptr<FileSystem>(std::make_shared<BuiltFileSystem>("sysfs", 0x62656572, build_sysfs));
}

Result<std::shared_ptr<FileSystem>> make_cgroup_file_system() {
  return std::shared_ptr<FileSystem>(std::make_shared<BuiltFileSystem>("cgroup2", 0x63677270, build_cgroup));
}

}  // namespace caisson::kernel
