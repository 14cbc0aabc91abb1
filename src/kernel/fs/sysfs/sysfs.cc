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

std::string mask_text(const std::vector<int>& cpus) {
  std::vector<uint32_t> words(static_cast<size_t>(cpus.back()) / 32 + 1);
  for (const int cpu : cpus) words[static_cast<size_t>(cpu) / 32] |= 1U << (cpu % 32);
  std::string text;
  for (auto word = words.rbegin(); word != words.rend(); ++word) append_format(text, "%s%08x", text.empty() ? "" : ",", *word);
  return text + "\n";
}

void add_cpus(TreeBuilder& tree) {
  const std::vector<int> cpus = usable_cpus();
  const std::string range = cpu_list_text(cpus), mask = mask_text(cpus);
  const std::string folder = "devices/system/cpu/";
  // Those that may ever be seen in a thread's rseq area stay possible, whatever the quota is worth.
  for (const char* name : {"possible", "present"}) tree.text(folder + name, range);
  tree.file(folder + "online", [](Task&) -> Result<std::string> { return cpu_list_text(visible_cpus()); });
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
  tree.text("kernel/uevent_seqnum", "0\n");
  tree.text("kernel/profiling", "0\n");
  tree.text("power/state", "\n");
  tree.add("class/net", std::make_shared<NetFolder>(tree.fs(), tree.number()));
  for (const char* name : {"block", "bus", "class/block", "class/tty", "class/mem", "dev/block", "dev/char", "devices/virtual", "firmware",
                           "fs/cgroup", "hypervisor", "kernel/security", "module"})
    (void)tree.folder(name);
}

}  // namespace

Result<std::shared_ptr<FileSystem>> make_sysfs_file_system() {
  return std::shared_ptr<FileSystem>(std::make_shared<BuiltFileSystem>("sysfs", 0x62656572, build_sysfs));
}

}  // namespace caisson::kernel
