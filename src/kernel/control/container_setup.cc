#include "kernel/control/container_setup.h"

#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "kernel.pb.h"
#include "kernel/control/cover.h"
#include "kernel/control/descriptors.h"
#include "kernel/control/messages.h"
#include "kernel/control/start_process.h"
#include "kernel/fs/dev/device_rules.h"
#include "kernel/fs/host/host_fs.h"
#include "kernel/fs/registry.h"
#include "kernel/ipc/limits.h"
#include "kernel/klog.h"
#include "kernel/net/low_ports.h"
#include "kernel/net/network_namespace.h"
#include "kernel/platform/host_proc.h"
#include "kernel/task/namespace_numbers.h"

namespace caisson::kernel {
namespace {

Result<void> cover_paths(Task& setup, const v1::Start& start) {
  for (const std::string& path : start.masked_paths()) TRY(mask_path(setup, path));
  for (const std::string& path : start.readonly_paths()) TRY(make_path_readonly(setup, path));
  return {};
}

void mount_own(Task& setup, const v1::Start::Mount& mount) {
  Result<MountRef> mounted = mount_in_container(setup, mount.destination(), mount.type(), mount.source(), mount.options());
  if (mounted) return;
  klog(LogLevel::Warning, "%s cannot be mounted on %s: %s", mount.type().c_str(), mount.destination().c_str(),
       strerrordesc_np(mounted.error().value));
}

Result<void> set_sysctl(Container& container, const std::string& path, const std::string& value) {
  if (path == kLowPortsSetting) {
    sandbox_network()->first_unprivileged_port = TRY(parse_first_unprivileged_port(value));
    return {};
  }
  if (path == "kernel/domainname") {
    container.uts->set_domain(value.substr(0, value.find('\n')));
    return {};
  }
  const IpcSetting* setting = find_ipc_setting(path);
  if (setting == nullptr) return Errno(ENOENT);
  return set_ipc_setting(*container.ipc, *setting, value);
}

Result<void> set_sysctls(Container& container, const v1::Start& start) {
  for (const auto& [path, value] : start.sysctl()) {
    const Result<void> set = set_sysctl(container, path, value);
    if (set) continue;
    klog(LogLevel::Error, "linux.sysctl: cannot set %s to \"%s\": %s", path.c_str(), value.c_str(), strerrordesc_np(set.error().value));
    return set.error();
  }
  return {};
}

// The host's mounts and this kernel's own, in the order of config.json.
Result<void> mount_all(Kernel& kernel, Container& container, const v1::Start& start, std::vector<OpenMount> mounts) {
  const std::unique_ptr<Task> setup = make_setup_task(kernel, container);
  std::vector<const v1::Start::Mount*> own;
  for (const v1::Start::Mount& mount : start.mounts()) own.push_back(&mount);
  const auto mount_before = [&](std::string_view point) {
    std::erase_if(own, [&](const v1::Start::Mount* mount) {
      if (mount->followed_by() != point) return false;
      mount_own(*setup, *mount);
      return true;
    });
  };
  import_host_mounts(*setup, container, std::move(mounts), mount_before);
  for (const v1::Start::Mount* mount : own) mount_own(*setup, *mount);
  return cover_paths(*setup, start);
}

// Whether the kernel mounts something of its own on that place, or above it.
bool is_ours(const v1::Start& start, std::string_view point) {
  for (const v1::Start::Mount& mount : start.mounts())
    if (point == mount.destination() || (point.starts_with(mount.destination()) && point[mount.destination().size()] == '/')) return true;
  return false;
}

// Of the namespace that a pod's containers share.
std::string own_hostname() {
  char name[65] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

template <typename Description>
Result<Description> take_description() {
  Description description;
  if (!description.ParseFromString(TRY(read_description(kDescriptionFd)))) return Errno(EPROTO);
  close(kDescriptionFd);
  close(kProgramFd);
  klog_configure(kLogFd, description.debug() ? LogLevel::Debug : LogLevel::Info);
  return description;
}

}  // namespace

Result<v1::Start> take_start() {
  v1::Start start = TRY(take_description<v1::Start>());
  if (start.hostname().empty()) start.set_hostname(own_hostname());
  return start;
}

Result<v1::House> take_house() { return take_description<v1::House>(); }

Result<std::vector<OpenMount>> open_mounts(const v1::Start& start) {
  std::vector<OpenMount> mounts =
      open_host_mounts(TRY(read_host_proc("self/mountinfo")), [&](std::string_view point) { return is_ours(start, point); });
  let_mounts_hear(mounts);
  return mounts;
}

constexpr uint64_t kLeastLeft = 6 << 20;  // the kernel's own few, and a small program
void apply_limits(Kernel& kernel, Container& container, const v1::Limits& limits) {
  CgroupLimits to;
  if (limits.has_memory()) to.memory = limits.memory();
  if (limits.has_memory_low()) to.memory_low = limits.memory_low();
  if (limits.has_swap()) to.swap = limits.swap();
  if (limits.has_cpu_quota()) to.cpu_quota = limits.cpu_quota();
  if (limits.has_cpu_period()) to.cpu_period = limits.cpu_period();
  if (limits.has_cpu_weight()) to.cpu_weight = limits.cpu_weight();
  if (limits.has_pids()) to.pids = limits.pids();
  std::vector<DeviceRule> rules;
  for (const v1::Limits::DeviceRule& rule : limits.devices())
    rules.push_back({rule.allow(), rule.character(), rule.block(), rule.major(), rule.minor(), rule.access()});
  to.devices = std::make_shared<const std::vector<DeviceRule>>(std::move(rules));
  container.set_limits(to);
  // A part stays for the processes: what is written is refused before somebody must be killed.
  const auto memory = static_cast<uint64_t>(std::max<int64_t>(to.memory, 0));
  container.held->set_limit(memory > 0 ? memory - std::min(memory, std::max(memory / 16, kLeastLeft)) : HeldMemory::kNoLimit);
  std::lock_guard guard(kernel.tasks);
  container.groups->most_tasks = to.pids > 0 ? std::min(Container::kMostTasks, static_cast<size_t>(to.pids)) : Container::kMostTasks;
}

namespace {

Result<std::map<NamespaceKind, uint64_t>> host_numbers_of(const v1::Start& start) {
  if (start.own_namespaces_size() != start.namespace_numbers_size()) return Errno(EPROTO);
  std::map<NamespaceKind, uint64_t> numbers;
  for (int i = 0; i < start.own_namespaces_size(); ++i)
    for (const NamespaceKind kind :
         {NamespaceKind::Mount, NamespaceKind::Uts, NamespaceKind::Ipc, NamespaceKind::Pid, NamespaceKind::Cgroup})
      if (start.own_namespaces(i) == namespace_name(kind)) numbers[kind] = start.namespace_numbers(i);
  return numbers;
}

}  // namespace

Result<std::unique_ptr<Container>> make_container(Kernel& kernel, const v1::Start& start, std::vector<OpenMount> mounts,
                                                  const SharedNamespaces& shared) {
  auto container = std::make_unique<Container>();
  const AdoptedNumbers numbers(TRY(host_numbers_of(start)));
  container->id = start.container_id();
  container->pids = shared.pids ? shared.pids : std::make_shared<PidNamespace>();
  container->ipc = shared.ipc ? shared.ipc : std::make_shared<IpcNamespace>();
  container->cgroup = std::make_shared<CgroupNamespace>(container->groups);
  container->uts = shared.uts ? shared.uts : std::make_shared<UtsNames>();
  container->mounts = std::make_shared<MountTable>();
  container->seccomp = TRY(configured_seccomp(start));
  container->personality = start.personality();
  // The zygote has come from the stand-in of the container's first process, which the host has made so.
  container->scheduling = scheduling_of(start.process());
  container->nice = std::clamp(start.process().nice(), -20, 19);
  if (!shared.uts && !start.hostname().empty()) container->uts->set_host(start.hostname());
  if (!shared.uts && !start.domainname().empty()) container->uts->set_domain(start.domainname());
  TRY(set_sysctls(*container, start));
  // The last one is what "/" means.
  const auto root = std::find_if(mounts.rbegin(), mounts.rend(), [](const OpenMount& each) { return each.mount.point == "/"; });
  if (root == mounts.rend()) return Errno(ENOENT);
  const auto fs = TRY(HostFileSystem::create(std::move(root->fd)));
  const auto dentry = std::make_shared<Dentry>("", nullptr, TRY(fs->root()));
  // The root's own flags (root.readonly).
  std::string rest;
  const unsigned long flags = split_mount_options(root->mount.options, &rest);
  const MountRef mount = TRY(container->mounts->add(fs, dentry, Path(), flags, "caisson", ""));
  container->root = {mount, dentry};
  apply_limits(kernel, *container, start.limits());
  TRY(mount_all(kernel, *container, start, std::move(mounts)));
  return container;
}

}  // namespace caisson::kernel
