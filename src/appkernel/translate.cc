#include "appkernel/translate.h"

#include <linux/seccomp.h>
#include <sys/personality.h>

#include <algorithm>

#include "base/io_priority.h"
#include "base/log.h"
#include "container/credentials.h"
#include "container/seccomp.h"
#include "kernel/control/descriptors.h"
#include "kernel/fs/host/memory_meter.h"
#include "kernel/net/low_ports.h"
#include "oci/names.h"
#include "oci/parse.h"
#include "oci/support.h"

namespace caisson::appkernel {
namespace {

// What the kernel process begins with. It drops most of it before a guest runs (src/kernel/control/confine.cc); CAP_SYS_ADMIN is for its
// own /proc and mounts, CAP_SYS_CHROOT for its empty root.
const std::vector<std::string> kCapabilities = {"CAP_CHOWN",   "CAP_DAC_OVERRIDE",     "CAP_DAC_READ_SEARCH", "CAP_FOWNER",
                                                "CAP_FSETID",  "CAP_SETUID",           "CAP_SETGID",          "CAP_KILL",
                                                "CAP_NET_RAW", "CAP_NET_BIND_SERVICE", "CAP_SETPCAP",         "CAP_NET_ADMIN",
                                                "CAP_SETFCAP", "CAP_SYS_NICE",         "CAP_SYS_ADMIN",       "CAP_SYS_CHROOT"};

std::string joined(const std::vector<std::string>& options) {
  std::string text;
  for (const std::string& option : options) text += (text.empty() ? "" : ",") + option;
  return text;
}

bool below(std::string_view path, std::string_view folder) {
  return path == folder || (path.starts_with(folder) && path[folder.size()] == '/');
}

// File systems whose content is the kernel's own. The host makes an empty folder in their place, so that there is something to mount on.
bool is_cgroup(const oci::Mount& mount) { return mount.type == "cgroup" || mount.type == "cgroup2"; }

bool is_the_hosts(const oci::Mount& mount) {
  return mount.type != "proc" && mount.type != "sysfs" && mount.type != "devpts" && mount.type != "mqueue" && !is_cgroup(mount);
}

// A file system in memory that is made for this container, and not one that is there and is bound.
bool is_new_memory(const oci::Mount& mount) {
  const auto binds = [](const std::string& option) { return option == "bind" || option == "rbind"; };
  return mount.type == "tmpfs" && std::ranges::none_of(mount.options, binds);
}

void take_mounts(oci::Spec& spec, kernel::v1::Start& start) {
  for (auto each = spec.mounts.begin(); each != spec.mounts.end(); ++each) {
    oci::Mount& mount = *each;
    if (is_the_hosts(mount)) {
      if (is_new_memory(mount)) mount.source = kernel::kPrivateMemory + mount.source;
      continue;
    }
    auto* taken = start.add_mounts();
    taken->set_destination(mount.destination);
    taken->set_type(is_cgroup(mount) ? "cgroup2" : mount.type);
    taken->set_source(mount.source);
    taken->set_options(joined(mount.options));
    if (const auto next = std::find_if(each, spec.mounts.end(), is_the_hosts); next != spec.mounts.end())
      taken->set_followed_by(next->destination);
    // The engine's terminals are ptys of the host's devpts.
    if (mount.type == "devpts" || mount.type == "proc") continue;
    mount.type = "tmpfs";
    mount.source = "tmpfs";
    mount.options = {"nosuid", "noexec", "nodev", "size=4k", "mode=755"};
  }
}

// What the kernel has itself is set there, and on the host, too, which says what is wrong with a value; the rest is the pod's network.
// Which ports are low is the kernel's alone: on the host it says what the kernel process may bind.
Result<void> take_sysctls(oci::Spec& spec, kernel::v1::Start& start) {
  for (auto each = spec.linux_.sysctl.begin(); each != spec.linux_.sysctl.end();) {
    const auto& [name, value] = *each;
    const std::string path = oci::sysctl_path(name);
    const bool low_ports = path == kernel::kLowPortsSetting;
    if (low_ports && !kernel::parse_first_unprivileged_port(value))
      return make_error(EINVAL, "linux.sysctl: {}: \"{}\" is not a number from 0 to 65535", name, value);
    if (low_ports || !path.starts_with("net/")) (*start.mutable_sysctl())[path] = value;
    each = low_ports ? spec.linux_.sysctl.erase(each) : std::next(each);
  }
  return {};
}

// The filter is for the guest's system calls, which its own kernel judges; those that the kernel makes for it are none of its business.
Result<void> take_seccomp(const oci::Seccomp& seccomp, kernel::v1::Start& start) {
  const container::SeccompFilter filter = TRY(container::compile_seccomp(seccomp));
  if (filter.wants_listener)
    return make_error(
        ENOTSUP,
        "linux.seccomp: SCMP_ACT_NOTIFY and listenerPath are not possible with the isolation \"appkernel\": the agent that listens "
        "on the node cannot be given a descriptor of the application kernel");
  start.set_seccomp(reinterpret_cast<const char*>(filter.program.data()), filter.program.size() * sizeof(sock_filter));
  start.set_seccomp_log((filter.flags & SECCOMP_FILTER_FLAG_LOG) != 0);
  return {};
}

// What is another kernel's cannot be shared: the node's, or that of a container with a kernel process of its own.
Result<void> check_sharing(const oci::Spec& spec, const Sharing& sharing) {
  if (const oci::Namespace* pid = spec.find_namespace("pid"); pid != nullptr && !pid->path.empty() && sharing.pid_of.empty())
    return make_error(ENOTSUP,
                      "linux.namespaces: the pid namespace {} cannot be joined with the isolation \"appkernel\": it is not that of a "
                      "container of this pod that runs with it, and an application kernel has processes of its own",
                      pid->path);
  if (const oci::Namespace* ipc = spec.find_namespace("ipc"); ipc != nullptr && !ipc->path.empty() && sharing.ipc_of.empty())
    log::warning(
        "linux.namespaces: of the ipc namespace {} the container shares nothing with the isolation \"appkernel\": System V IPC and POSIX "
        "message queues are its own (a shared /dev/shm is shared)",
        ipc->path);
  if (spec.find_namespace("pid") == nullptr)
    log::warning(
        "linux.namespaces: with the isolation \"appkernel\" the container has a pid namespace of its own though none is asked for");
  return {};
}

// Paths below what the kernel mounts itself are for it to cover.
template <typename Taken>
void take_paths(std::vector<std::string>& paths, Taken* taken) {
  std::erase_if(paths, [&](const std::string& path) {
    if (!below(path, "/proc") && !below(path, "/sys")) return false;
    *taken->Add() = path;
    return true;
  });
}

// What the stand-in is given on the node (container::apply_process_limits), for its stubs' sake, and the guest is told.
Result<void> describe_scheduling(const oci::Process& process, kernel::v1::Process& to) {
  if (process.scheduler) {
    const oci::NamedValue* policy = oci::find_name(oci::kSchedulerPolicies, process.scheduler->policy);
    if (policy == nullptr) return make_error(EINVAL, "process.scheduler.policy: \"{}\" is not a policy", process.scheduler->policy);
    to.set_scheduling_policy(static_cast<int32_t>(policy->value));
    to.set_scheduling_priority(process.scheduler->priority);
    to.set_nice(process.scheduler->nice);
  }
  if (process.io_priority) {
    const oci::NamedValue* row = oci::find_name(oci::kIoPriorityClasses, process.io_priority->class_name);
    if (row == nullptr) return make_error(EINVAL, "process.ioPriority.class: \"{}\" is not a class", process.io_priority->class_name);
    to.set_io_priority(static_cast<int32_t>(IOPRIO_PRIO_VALUE(row->value, process.io_priority->priority)));
  }
  return {};
}

}  // namespace

Result<kernel::v1::Process> describe_process(const oci::Process& process) {
  kernel::v1::Process to;
  for (const std::string& text : process.args) to.add_arguments(text);
  for (const std::string& text : process.env) to.add_environment(text);
  to.set_cwd(process.cwd);
  to.set_uid(process.user.uid);
  to.set_gid(process.user.gid);
  for (uint32_t group : process.user.additional_gids) to.add_groups(group);
  to.set_umask(process.user.umask.value_or(022));
  const container::CapabilitySets sets = container::capability_sets(process);
  to.set_bounding(sets.bounding);
  to.set_effective(sets.effective);
  to.set_permitted(sets.permitted);
  to.set_inheritable(sets.inheritable);
  to.set_ambient(sets.ambient);
  to.set_no_new_privileges(process.no_new_privileges);
  for (size_t index = 0; index < process.rlimits.size(); ++index) {
    const oci::Rlimit& limit = process.rlimits[index];
    const oci::NamedValue* row = oci::find_name(oci::kRlimits, limit.type);
    if (row == nullptr) return make_error(EINVAL, "process.rlimits[{}]: \"{}\" is not a resource limit", index, limit.type);
    auto* added = to.add_limits();
    added->set_resource(static_cast<int32_t>(row->value));
    added->set_soft(limit.soft);
    added->set_hard(limit.hard);
  }
  to.set_terminal(process.terminal);
  to.set_oom_score_adj(process.oom_score_adj.value_or(0));
  TRY(describe_scheduling(process, to));
  return to;
}

void live_with(oci::Spec& spec, pid_t kernel) {
  auto& namespaces = spec.linux_.namespaces;
  namespaces.push_back({.type = "pid", .path = fmt::format("/proc/{}/ns/pid", kernel)});
  for (oci::Namespace& ns : namespaces) {
    if (ns.path.empty() && ns.type == "network") ns.path = fmt::format("/proc/{}/ns/net", kernel);
    if (ns.path.empty() && ns.type == "user") ns.path = fmt::format("/proc/{}/ns/user", kernel);
    if (ns.path.empty() && ns.type == "time") ns.path = fmt::format("/proc/{}/ns/time", kernel);
  }
}

oci::Spec kernel_spec(const oci::Spec& spec, const std::string& id) {
  oci::Spec to;
  to.has_process = true;
  become_stand_in(to.process, "caisson-kernel " + id, kernel::kKernelCommand);
  to.process.oom_score_adj = spec.process.oom_score_adj;
  to.linux_.uid_mappings = spec.linux_.uid_mappings;
  to.linux_.gid_mappings = spec.linux_.gid_mappings;
  for (const char* type : {"pid", "mount", "ipc", "uts"}) to.linux_.namespaces.push_back({.type = type, .path = ""});
  to.linux_.time_offsets = spec.linux_.time_offsets;
  for (const char* type : {"network", "user", "time"})
    if (const oci::Namespace* ns = spec.find_namespace(type); ns != nullptr) to.linux_.namespaces.push_back(*ns);
  return to;
}

oci::Spec broker_spec(const std::string& id, pid_t kernel, bool user_namespace) {
  oci::Spec to;
  to.has_process = true;
  become_stand_in(to.process, "caisson-broker " + id, kernel::kBrokerCommand);
  to.linux_.namespaces = {{.type = "mount", .path = ""}};
  for (const auto& [type, file] : {std::pair("pid", "pid"), {"network", "net"}, {"user", "user"}})
    if (user_namespace || std::string_view(type) != "user")
      to.linux_.namespaces.push_back({.type = type, .path = fmt::format("/proc/{}/ns/{}", kernel, file)});
  return to;
}

void become_stand_in(oci::Process& process, const std::string& name, const char* command) {
  process.args = {name, command};
  process.env.clear();
  process.cwd = "/";
  process.user = {};
  process.rlimits.clear();
  process.capabilities = oci::Capabilities{
      .bounding = kCapabilities, .effective = kCapabilities, .inheritable = {}, .permitted = kCapabilities, .ambient = {}};
  process.no_new_privileges = false;  // it sets that itself, after what it does first
  process.apparmor_profile.clear();
  process.selinux_label.clear();
}

Result<void> divide(oci::Spec& spec, kernel::v1::Start& start, const Sharing& sharing) {
  // What the command line has taken out and told of is no longer there; the shim's configurations come as they are.
  for (const std::string& warning : TRY(oci::check_support(spec, "appkernel"))) log::warning("{}", warning);
  TRY(check_sharing(spec, sharing));
  start.set_pid_of(sharing.pid_of);
  start.set_ipc_of(sharing.ipc_of);
  start.set_uts_of(sharing.uts_of);
  *start.mutable_process() = TRY(describe_process(spec.process));
  start.set_hostname(spec.hostname);
  start.set_domainname(spec.domainname);
  TRY(take_sysctls(spec, start));
  take_mounts(spec, start);
  take_paths(spec.linux_.masked_paths, start.mutable_masked_paths());
  take_paths(spec.linux_.readonly_paths, start.mutable_readonly_paths());
  if (spec.linux_.seccomp) TRY(take_seccomp(*spec.linux_.seccomp, start));
  spec.linux_.seccomp.reset();
  if (spec.linux_.personality && spec.linux_.personality->domain == "LINUX32") start.set_personality(PER_LINUX32);
  spec.linux_.personality.reset();
  auto& namespaces = spec.linux_.namespaces;
  for (const oci::Namespace& ns : namespaces) {
    // All containers of a kernel process are in one pid namespace of the node's, which is that of the first.
    const bool own =
        ns.path.empty() && (ns.type == "uts" || ns.type == "ipc" || ns.type == "cgroup" || (ns.type == "pid" && sharing.kernel_of.empty()));
    if (own) start.add_own_namespaces(ns.type);
  }
  start.add_own_namespaces("mnt");
  std::erase_if(namespaces, [](const oci::Namespace& ns) { return ns.type == "pid"; });
  if (spec.find_namespace("mount") == nullptr) namespaces.push_back({.type = "mount", .path = ""});
  return {};
}

}  // namespace caisson::appkernel
