#include "oci/support.h"

#include <algorithm>
#include <optional>

#include "oci/document.h"
#include "oci/mount_options.h"
#include "oci/parse.h"
#include "oci/pod.h"

namespace caisson::oci {
namespace {

enum class Verdict { Yes, Ignored, Refused };

struct Answer {
  Verdict verdict = Verdict::Yes;
  std::string_view note;  // Yes: a condition; else the reason, as a sentence without its full stop
};
constexpr Answer kYes{};
constexpr Answer yes(std::string_view note) { return {Verdict::Yes, note}; }
constexpr Answer ignored(std::string_view reason) { return {Verdict::Ignored, reason}; }
constexpr Answer refused(std::string_view reason) { return {Verdict::Refused, reason}; }

// What of the member the document uses, for the message: names, or "yes"; "" where it uses nothing of it.
using Used = std::string (*)(const Spec&);

struct Row {
  std::string_view member;
  Answer in_namespace;
  Answer in_microvm;
  Used used = nullptr;         // needed where an answer is not Yes
  std::string_view drop = "";  // JSON pointer of what is taken out where it is ignored; * stands for every element. "": nothing has to be
  std::optional<Answer> in_appkernel = {};  // empty: as in a namespace
  Used used_in_appkernel = nullptr;         // where that is something else
};

constexpr const char* kUsed = "yes";

void add_name(std::string& list, std::string_view name) { list += fmt::format("{}{}", list.empty() ? "" : ", ", name); }

std::string joined(const Spec& spec, std::initializer_list<std::string_view> types) {
  std::string list;
  for (const Namespace& ns : spec.linux_.namespaces)
    if (!ns.path.empty() && std::find(types.begin(), types.end(), ns.type) != types.end()) add_name(list, ns.type);
  return list;
}

bool in_pod(const Spec& spec) { return pod_role(spec) == PodRole::Container; }

std::string other_joined(const Spec& spec) {
  return in_pod(spec) ? joined(spec, {"mount", "user", "cgroup", "time"}) : joined(spec, {"pid", "mount", "user", "cgroup", "time"});
}

std::string shared_with_the_node(const Spec& spec) {
  std::string list;
  // Not of cgroup, which engines leave out as a matter of course: it hides names, and the guest's tell nothing of the node.
  for (const char* type : {"network", "pid", "ipc", "uts"})
    if (!spec.find_namespace(type)) add_name(list, type);
  return list;
}

// The same numbers mean the same in every Linux kernel and give access to nothing of the node (Documentation/admin-guide/devices.txt).
bool is_common_device(const Device& device) {
  constexpr std::pair<int64_t, int64_t> kCommon[] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {10, 200}, {10, 229}};
  bool character = device.type == "c" || device.type == "u";
  return device.type == "p" || (character && std::count(std::begin(kCommon), std::end(kCommon), std::pair(device.major, device.minor)) > 0);
}

std::string nodes_devices(const Spec& spec) {
  std::string list;
  size_t count = 0;
  for (const Device& device : spec.linux_.devices) {
    if (is_common_device(device) || device.type == "b") continue;
    if (++count <= 5) add_name(list, excerpt(device.path));
  }
  return count > 5 ? fmt::format("{} and {} more", list, count - 5) : list;
}

// What the application kernel has itself: null, zero, full, random, urandom, tty, console and ptmx.
std::string devices_but_the_usual(const Spec& spec) {
  constexpr std::pair<int64_t, int64_t> kUsual[] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}};
  std::string list;
  for (const Device& device : spec.linux_.devices) {
    const bool character = device.type == "c" || device.type == "u";
    const bool usual = character && std::count(std::begin(kUsual), std::end(kUsual), std::pair(device.major, device.minor)) > 0;
    if (device.type != "p" && !usual) add_name(list, excerpt(device.path));
  }
  return list;
}

std::string outgoing_mounts(const Spec& spec) {
  std::string list;
  for (const Mount& mount : spec.mounts)
    for (const std::string& name : mount.options)
      if (const MountOption* option = find_mount_option(name);
          option && option->kind == MountOptionKind::Propagation && (option->set & MS_SHARED) != 0)
        add_name(list, excerpt(mount.destination));
  return list;
}

template <auto Member>
std::string of_process(const Spec& spec) {
  return (spec.process.*Member).empty() ? "" : kUsed;
}
template <auto Member>
std::string of_linux(const Spec& spec) {
  return (spec.linux_.*Member).empty() ? "" : kUsed;
}
template <auto Member>
std::string of_resources(const Spec& spec) {
  return !spec.linux_.resources || (*spec.linux_.resources.*Member).empty() ? "" : kUsed;
}
template <auto Member>
std::string of_memory(const Spec& spec) {
  return spec.linux_.resources && (spec.linux_.resources->memory.*Member) ? kUsed : "";
}

std::string time_namespace(const Spec& spec) { return spec.find_namespace("time") ? kUsed : ""; }
std::string personality(const Spec& spec) { return spec.linux_.personality ? kUsed : ""; }
std::string intel_rdt(const Spec& spec) { return spec.linux_.intel_rdt ? kUsed : ""; }
std::string create_container_hooks(const Spec& spec) { return spec.hooks.create_container.empty() ? "" : kUsed; }
std::string seccomp_listener(const Spec& spec) {
  // Without a rule that notifies the specification has it ignored anyway.
  if (!spec.linux_.seccomp) return "";
  const auto& rules = spec.linux_.seccomp->syscalls;
  return std::any_of(rules.begin(), rules.end(), [](const SeccompSyscall& rule) { return rule.action == "SCMP_ACT_NOTIFY"; }) ? kUsed : "";
}
std::string cpuset(const Spec& spec) {
  return spec.linux_.resources && !(spec.linux_.resources->cpu.cpus.empty() && spec.linux_.resources->cpu.mems.empty()) ? kUsed : "";
}
std::string realtime(const Spec& spec) {
  return spec.linux_.resources && (spec.linux_.resources->cpu.realtime_runtime || spec.linux_.resources->cpu.realtime_period) ? kUsed : "";
}
std::string block_devices(const Spec& spec) {
  if (!spec.linux_.resources) return "";
  const BlockIoResources& io = spec.linux_.resources->block_io;
  bool any = !(io.weight_device.empty() && io.throttle_read_bps.empty() && io.throttle_write_bps.empty() && io.throttle_read_iops.empty() &&
               io.throttle_write_iops.empty());
  return any ? kUsed : "";
}
std::string network_class(const Spec& spec) {
  return spec.linux_.resources && (spec.linux_.resources->network.class_id || !spec.linux_.resources->network.priorities.empty()) ? kUsed
                                                                                                                                  : "";
}

constexpr std::string_view kOnlyV1 = "the guest has cgroup v2, which has no such thing";
constexpr std::string_view kOwnKernel = "the container's processes have a kernel of their own, which has no such thing";
constexpr std::string_view kV1Here = "on nodes with cgroup v1; else a warning";

// clang-format off
constexpr Row kRows[] = {
    {"ociVersion", kYes, kYes},
    {"root.path", kYes, yes("shared with the guest, read-write")},
    {"root.readonly", kYes, kYes},
    {"hostname, domainname", kYes, kYes},
    {"annotations", yes("`io.caisson.*`; others are kept for `state` and hooks"), yes("the same")},
    {"process.terminal, consoleSize", kYes, kYes},
    {"process.user (uid, gid, umask, additionalGids)", kYes, kYes},
    {"process.args, env, cwd", kYes, kYes},
    {"process.capabilities", yes("unknown ones are left out with a warning"), yes("the same")},
    {"process.rlimits", yes("raised hard limits need CAP_SYS_RESOURCE"), kYes},
    {"process.noNewPrivileges", kYes, kYes},
    {"process.oomScoreAdj", yes("below the runtime's own value: needs CAP_SYS_RESOURCE, else a warning"), kYes},
    {"process.scheduler, ioPriority, execCPUAffinity", kYes, yes("among the guest's processes and CPUs"), nullptr, "", yes("on the node, and told inside; CPUs as the node has them")},
    {"process.apparmorProfile", yes("fails where the kernel has no AppArmor"), ignored("the guest's kernel has no AppArmor; the guest itself is the wall"), of_process<&Process::apparmor_profile>, "/process/apparmorProfile", ignored(kOwnKernel)},
    {"process.selinuxLabel", yes("fails where the kernel has no SELinux"), ignored("the guest's kernel has no SELinux; the guest itself is the wall"), of_process<&Process::selinux_label>, "/process/selinuxLabel", ignored(kOwnKernel)},
    {"process.commandLine", ignored("it is for Windows"), ignored("it is for Windows"), of_process<&Process::command_line>, "/process/commandLine"},
    {"mounts (type, source, options)", kYes, yes("bind sources are shared with the guest")},
    {"mounts[].options: shared, rshared", kYes, ignored("what is mounted in the guest is not seen on the node"), outgoing_mounts},
    {"mounts[].options: idmap, ridmap; uidMappings, gidMappings", yes("where the file system can; else creation fails"), yes("where the guest's kernel and the share can; else creation fails")},
    {"hooks.prestart, createRuntime, poststart, poststop", kYes, yes("on the node")},
    {"hooks.createContainer", kYes, refused("its programs are the node's and its namespaces are the guest's"), create_container_hooks},
    {"hooks.startContainer", kYes, yes("in the guest")},
    {"linux.namespaces", kYes, yes("in the guest"), nullptr, "", yes("its own kernel's, and the node's around it; a PID namespace in any case, with a warning")},
    {"linux.namespaces: time; linux.timeOffsets", kYes, kYes, time_namespace, "/linux/timeOffsets"},
    {"linux.namespaces: a type that is not there (the node's own namespace)", kYes, ignored("the container gets the guest's, as the node's is another kernel's"), shared_with_the_node},
    {"linux.namespaces[].path of network", kYes, yes("its interfaces, addresses, routes and neighbours become the guest's")},
    {"linux.namespaces[].path of ipc, uts, pid in a pod's container", kYes, yes("those of the pod's first container")},
    {"linux.namespaces[].path of ipc, uts", kYes, ignored("a namespace of the node cannot be entered from the guest; the container gets one of its own"), [](const Spec& spec) { return in_pod(spec) ? "" : joined(spec, {"ipc", "uts"}); }},
    {"linux.namespaces[].path of other types", kYes, refused("a namespace of the node cannot be entered from the guest"), other_joined},
    {"linux.uidMappings, gidMappings", kYes, yes("in the guest")},
    {"linux.devices", kYes, ignored("block devices of the node become disks of the machine (containerd.md); of other devices nodes are made, and lead to the guest's own devices of those numbers, if any"), nodes_devices, "", ignored("the application kernel has the usual devices only: others cannot be opened"), devices_but_the_usual},
    {"linux.netDevices", kYes, refused("an interface of the node cannot move into the guest's kernel"), of_linux<&Linux::net_devices>},
    {"linux.cgroupsPath", kYes, yes("for the hypervisor and its helpers on the node")},
    {"linux.sysctl", yes("of the container's own namespaces"), yes("the same"), nullptr, "", yes("of the network; those of IPC, and `kernel.domainname`, are its own kernel's")},
    {"linux.seccomp", kYes, yes("in the guest"), nullptr, "", yes("by its own kernel")},
    {"linux.seccomp: SCMP_ACT_NOTIFY, listenerPath, listenerMetadata", kYes, refused("the agent that listens on the node cannot be given a descriptor of the guest's kernel"), seccomp_listener, "", refused("the agent that listens on the node cannot be given a descriptor of the application kernel")},
    {"linux.rootfsPropagation", kYes, yes("in the guest")},
    {"linux.maskedPaths, readonlyPaths", kYes, kYes},
    {"linux.mountLabel", yes("fails where the kernel has no SELinux"), ignored("the guest's kernel has no SELinux"), of_linux<&Linux::mount_label>, "/linux/mountLabel"},
    {"linux.personality", kYes, kYes, personality, "/linux/personality"},
    {"linux.memoryPolicy", kYes, yes("of the guest's memory nodes")},
    {"linux.intelRdt", refused("Caisson does not manage resctrl"), refused("Caisson does not manage resctrl"), intel_rdt},
    {"linux.resources.devices", kYes, yes("in the guest")},
    {"linux.resources.memory.limit, reservation, swap", kYes, yes("in the guest, and for its size")},
    {"linux.resources.memory.checkBeforeUpdate", kYes, kYes},
    {"linux.resources.memory.kernel", yes(kV1Here), ignored(kOnlyV1), of_memory<&MemoryResources::kernel>, "/linux/resources/memory/kernel"},
    {"linux.resources.memory.kernelTCP", yes(kV1Here), ignored(kOnlyV1), of_memory<&MemoryResources::kernel_tcp>, "/linux/resources/memory/kernelTCP"},
    {"linux.resources.memory.swappiness", yes(kV1Here), ignored(kOnlyV1), of_memory<&MemoryResources::swappiness>, "/linux/resources/memory/swappiness"},
    {"linux.resources.memory.disableOOMKiller", yes(kV1Here), ignored(kOnlyV1), of_memory<&MemoryResources::disable_oom_killer>, "/linux/resources/memory/disableOOMKiller"},
    {"linux.resources.memory.useHierarchy", yes(kV1Here), ignored("in cgroup v2, which the guest has, limits are always those of the hierarchy"), of_memory<&MemoryResources::use_hierarchy>, "/linux/resources/memory/useHierarchy"},
    {"linux.resources.cpu.shares, quota, period, burst, idle", kYes, yes("in the guest, and for its size")},
    {"linux.resources.cpu.cpus, mems", kYes, ignored("they number the node's CPUs and memory nodes, not the guest's"), cpuset, "/linux/resources/cpu/cpus,/linux/resources/cpu/mems"},
    {"linux.resources.cpu.realtimeRuntime, realtimePeriod", yes(kV1Here), ignored(kOnlyV1), realtime, "/linux/resources/cpu/realtimeRuntime,/linux/resources/cpu/realtimePeriod"},
    {"linux.resources.pids", kYes, yes("in the guest")},
    {"linux.resources.blockIO.weight, leafWeight", yes("where the node's I/O scheduler has weights; else a warning"), yes("in the guest")},
    {"linux.resources.blockIO: per device", kYes, ignored("they number the node's disks, not the guest's"), block_devices, "/linux/resources/blockIO"},
    {"linux.resources.hugepageLimits", kYes, ignored("the guest reserves no huge pages"), of_resources<&Resources::hugepage_limits>, "/linux/resources/hugepageLimits"},
    {"linux.resources.network", yes(kV1Here), ignored("the node's network does not see the guest's cgroups"), network_class, "/linux/resources/network"},
    {"linux.resources.rdma", kYes, ignored("the guest has no RDMA devices"), of_resources<&Resources::rdma>, "/linux/resources/rdma"},
    {"linux.resources.unified", yes("on nodes with cgroup v2; else creation fails"), yes("in the guest")},
    {"vm", ignored("the guest is described by Caisson's own configuration"), ignored("the guest is described by Caisson's own configuration"), [](const Spec&) { return std::string(); }},
};
// clang-format on

const Answer& answer_of(const Row& row, std::string_view isolation) {
  if (isolation == "appkernel" && row.in_appkernel) return *row.in_appkernel;
  return isolation == "microvm" ? row.in_microvm : row.in_namespace;
}

std::string used_of(const Row& row, const Spec& spec, std::string_view isolation) {
  return isolation == "appkernel" && row.used_in_appkernel != nullptr ? row.used_in_appkernel(spec) : row.used(spec);
}

std::string sentence(const Row& row, std::string_view what, std::string_view isolation, std::string_view used) {
  return fmt::format("config.json: {}{}: {} with {} isolation: {}", row.member, used == kUsed ? "" : fmt::format(" ({})", used), what,
                     isolation, answer_of(row, isolation).note);
}

// Takes out what a pointer like /linux/namespaces/*/path names.
void erase(Json& json, std::string_view pointer) {
  pointer.remove_prefix(1);
  size_t slash = pointer.find('/');
  std::string name(pointer.substr(0, slash));
  if (name == "*") {
    for (Json& element : json)
      if (element.is_structured()) erase(element, pointer.substr(slash));
  } else if (json.is_object() && json.contains(name)) {
    if (slash == pointer.npos) {
      json.erase(name);
    } else {
      erase(json[name], pointer.substr(slash));
    }
  }
}

void drop_ignored(Json& json, const Spec& spec, std::string_view isolation) {
  for (const Row& row : kRows) {
    if (answer_of(row, isolation).verdict != Verdict::Ignored || used_of(row, spec, isolation).empty()) continue;
    for (std::string_view rest = row.drop; !rest.empty();) {
      size_t comma = std::min(rest.find(','), rest.size());
      erase(json, rest.substr(0, comma));
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
  }
}

std::string text_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

Result<std::vector<std::string>> check_support(const Spec& spec, std::string_view isolation) {
  std::vector<std::string> warnings;
  for (const Row& row : kRows) {
    Verdict verdict = answer_of(row, isolation).verdict;
    if (verdict == Verdict::Yes) continue;
    std::string used = used_of(row, spec, isolation);
    if (used.empty()) continue;
    if (verdict == Verdict::Refused) return make_error(ENOTSUP, "{}", sentence(row, "not possible", isolation, used));
    warnings.push_back(sentence(row, "ignored", isolation, used));
  }
  return warnings;
}

Result<Adapted> adapt_config(std::string_view config_json, std::string_view isolation) {
  Spec spec = TRY(parse_spec(config_json));
  Adapted adapted{.json = "", .warnings = TRY(check_support(spec, isolation))};
  Json json = TRY(parse_document(config_json, "config.json"));
  drop_ignored(json, spec, isolation);
  adapted.json = text_of(json);
  return adapted;
}

Result<Adapted> adapt_process(std::string_view process_json, std::string_view isolation) {
  Spec spec;
  spec.process = TRY(parse_process(process_json));
  spec.has_process = true;
  // Only the process is there: its namespaces are the container's, about which creation has warned.
  for (const char* type : {"network", "pid", "ipc", "uts"}) spec.linux_.namespaces.push_back({type, ""});
  Adapted adapted{.json = "", .warnings = TRY(check_support(spec, isolation))};
  Json json;
  json["process"] = TRY(parse_document(process_json, "process"));
  drop_ignored(json, spec, isolation);
  adapted.json = text_of(json["process"]);
  return adapted;
}

std::string support_markdown() {
  auto cell = [](const Answer& answer) {
    const char* word = answer.verdict == Verdict::Yes       ? "yes"
                       : answer.verdict == Verdict::Ignored ? "**ignored**, with a warning"
                                                            : "**refused**";
    return answer.note.empty() ? std::string(word) : fmt::format("{}{} {}", word, answer.verdict == Verdict::Yes ? ";" : ":", answer.note);
  };
  std::string text = "| member | `namespace` | `appkernel` | `microvm` |\n| --- | --- | --- | --- |\n";
  for (const Row& row : kRows)
    text +=
        fmt::format("| {} | {} | {} | {} |\n", row.member, cell(row.in_namespace), cell(answer_of(row, "appkernel")), cell(row.in_microvm));
  return text;
}

}  // namespace caisson::oci
