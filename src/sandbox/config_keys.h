// The configuration's keys: one row each. They drive reading TOML, JSON both ways, and docs/configuration.md.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "oci/annotations.h"
#include "sandbox/config.h"

namespace caisson::sandbox {

struct ConfigKey {
  using Member = std::variant<std::string RuntimeConfig::*, std::string MicrovmConfig::*, uint32_t MicrovmConfig::*,
                              uint64_t MicrovmConfig::*, bool MicrovmConfig::*>;
  std::string_view section;  // "" is the top level
  std::string_view name;
  Member member;
  std::span<const std::string_view> values;  // of a string; empty: any
  bool path = false;                         // a string that is "" or an absolute path
  uint64_t min = 0, max = 0;                 // of a number
  std::string_view meaning;
};

inline constexpr std::string_view kHypervisorValues[] = {"qemu"};
inline constexpr std::string_view kHostNetworkValues[] = {"namespace", "refuse"};
inline constexpr std::string_view kMachineValues[] = {"auto", "microvm", "q35"};
inline constexpr std::string_view kAccelValues[] = {"auto", "kvm", "tcg"};
inline constexpr std::string_view kGuestValues[] = {"auto", "stock", "tuned"};
inline constexpr std::string_view kShareValues[] = {"9p", "auto", "virtiofs"};
inline constexpr uint64_t kMaxMemoryMib = 16 << 20;  // 16 TiB
inline constexpr uint64_t kMaxVcpus = 1024;
inline constexpr uint64_t kMaxTimeoutSeconds = 3600;

// clang-format off
inline constexpr ConfigKey kConfigKeys[] = {
    {.section = "", .name = "isolation", .member = &RuntimeConfig::isolation, .values = oci::kIsolationValues,
     .meaning = "The isolation of sandboxes where neither --isolation nor the annotation io.caisson.isolation says. `auto` is `microvm` where a guest has booted under KVM (`caisson check`), else `appkernel`, and an error where neither works."},
    {.section = "", .name = "host_network", .member = &RuntimeConfig::host_network, .values = kHostNetworkValues,
     .meaning = "What becomes of a pod on the node's own network (hostNetwork) where the isolation is `microvm`, which cannot have it: it is refused, or runs with isolation `namespace`."},
    {.section = "microvm", .name = "hypervisor", .member = &MicrovmConfig::hypervisor, .values = kHypervisorValues,
     .meaning = "The virtual machine monitor."},
    {.section = "microvm", .name = "hypervisor_path", .member = &MicrovmConfig::hypervisor_path, .path = true,
     .meaning = "Its program. Empty: searched in PATH."},
    {.section = "microvm", .name = "machine", .member = &MicrovmConfig::machine, .values = kMachineValues,
     .meaning = "QEMU's machine type. `auto` is `microvm` where the guest's kernel can do with its devices, else `q35`."},
    {.section = "microvm", .name = "accel", .member = &MicrovmConfig::accel, .values = kAccelValues,
     .meaning = "How the processor is virtualised. `auto` is `kvm` where a guest really boots under it, else `tcg`, QEMU's emulation, slow."},
    {.section = "microvm", .name = "guest", .member = &MicrovmConfig::guest, .values = kGuestValues,
     .meaning = "The guest image, made by `caisson guest build`. `auto` is `tuned` if it has been built, else `stock`."},
    {.section = "microvm", .name = "kernel", .member = &MicrovmConfig::kernel, .path = true,
     .meaning = "A guest kernel of your own (an ELF vmlinux with a PVH note), in place of `guest`."},
    {.section = "microvm", .name = "initrd", .member = &MicrovmConfig::initrd, .path = true,
     .meaning = "With `kernel`: its initramfs. Empty: Caisson's own, for a kernel with everything built in."},
    {.section = "microvm", .name = "kernel_parameters", .member = &MicrovmConfig::kernel_parameters,
     .meaning = "Appended to the kernel's command line."},
    {.section = "microvm", .name = "guest_cache", .member = &MicrovmConfig::guest_cache, .path = true,
     .meaning = "The folder of built guest images."},
    {.section = "microvm", .name = "share", .member = &MicrovmConfig::share, .values = kShareValues,
     .meaning = "How root file systems and volumes reach the guest. `auto` is the best that hypervisor and kernel offer."},
    {.section = "microvm", .name = "virtiofsd_path", .member = &MicrovmConfig::virtiofsd_path, .path = true,
     .meaning = "The virtio-fs daemon. Empty: looked for in /usr/lib/qemu, /usr/libexec and PATH."},
    {.section = "microvm", .name = "default_vcpus", .member = &MicrovmConfig::default_vcpus, .min = 1, .max = kMaxVcpus,
     .meaning = "Virtual CPUs where the container's limits say nothing."},
    {.section = "microvm", .name = "max_vcpus", .member = &MicrovmConfig::max_vcpus, .max = kMaxVcpus,
     .meaning = "At most so many virtual CPUs, whatever the limits say. 0: as many as the node has."},
    {.section = "microvm", .name = "default_memory_mib", .member = &MicrovmConfig::default_memory_mib, .min = 32, .max = kMaxMemoryMib,
     .meaning = "Memory for containers, in MiB, where their limits say nothing."},
    {.section = "microvm", .name = "memory_overhead_mib", .member = &MicrovmConfig::memory_overhead_mib, .max = kMaxMemoryMib,
     .meaning = "Memory for the guest's kernel and agent, in MiB, on top of that of the containers."},
    {.section = "microvm", .name = "minimum_memory_mib", .member = &MicrovmConfig::minimum_memory_mib, .min = 32, .max = kMaxMemoryMib,
     .meaning = "No guest gets less, in MiB."},
    {.section = "microvm", .name = "hotplug_slots", .member = &MicrovmConfig::hotplug_slots, .max = 24,
     .meaning = "So many devices (disks, network interfaces) can be added to a pod's machine while it runs."},
    {.section = "microvm", .name = "user", .member = &MicrovmConfig::user,
     .meaning = "The user that the hypervisor runs as, by name or number. Where there is no such user, uid and gid 64055."},
    {.section = "microvm", .name = "boot_timeout_seconds", .member = &MicrovmConfig::boot_timeout_seconds, .min = 1, .max = kMaxTimeoutSeconds,
     .meaning = "From the hypervisor's start to the agent's first word."},
    {.section = "microvm", .name = "agent_timeout_seconds", .member = &MicrovmConfig::agent_timeout_seconds, .min = 1, .max = kMaxTimeoutSeconds,
     .meaning = "For one call to the agent."},
    {.section = "microvm", .name = "jail", .member = &MicrovmConfig::jail,
     .meaning = "Whether the hypervisor runs jailed. `false` is for debugging it, never for work: what breaks out of the guest is then root on the node."},
};
// clang-format on

// The table of docs/configuration.md.
std::string config_markdown();

}  // namespace caisson::sandbox
