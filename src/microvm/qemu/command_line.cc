#include "microvm/qemu/command_line.h"

#include <fmt/ranges.h>
#include <time.h>
#include <x86intrin.h>

#include <nlohmann/json.hpp>

namespace caisson::microvm {
namespace {

bool has_virtiofs(const VmConfig& config) { return config.share == ShareType::Virtiofs && config.share_namespace >= 0; }

// One more device of a machine: its model's name ends in the transport's.
std::string device(const VmConfig& config, std::string_view model, std::string_view properties = "") {
  return fmt::format("{}{}{}{}", model, has_pci(config) ? "-pci" : "-device", properties.empty() ? "" : ",", properties);
}

// What a real PC has and a sandbox has no use for costs time at each boot: off.
std::string machine(const VmConfig& config) {
  std::string text;
  if (config.machine == "microvm")
    text = fmt::format("microvm,x-option-roms=off,isa-serial=on,rtc=on,auto-kernel-cmdline=on,pcie={}", has_pci(config) ? "on" : "off");
  else
    text = "q35,sata=off,smbus=off,i8042=off,vmport=off,hpet=off,usb=off,graphics=off";
  text += ",dump-guest-core=off,mem-merge=on,memory-backend=memory";
  return text;
}

// Under emulation the plain model: with those of newer ones (ERMS) copying memory is ten times slower.
const char* cpu_model(const VmConfig& config) { return config.accel == Accel::Kvm ? "host" : "qemu64"; }

// Emulation divides its translated code among threads from the start, and ends in an assertion when one more comes while all of it is in
// use (tcg_region_initial_alloc, seen with 7.2): one thread for all processors where more may come.
const char* accelerator(const VmConfig& config) {
  if (config.accel == Accel::Kvm) return "kvm";
  return most_vcpus(config) > config.vcpus ? "tcg,tb-size=64,thread=single" : "tcg,tb-size=64";
}

// Each in a socket of its own where more may come: the numbers of one that is added are then simple.
std::string processors(const VmConfig& config) {
  const uint32_t most = most_vcpus(config);
  if (most == config.vcpus) return fmt::format("{}", config.vcpus);
  return fmt::format("{},maxcpus={},sockets={},cores=1,threads=1", config.vcpus, most, most);
}

std::string memory(const VmConfig& config) {
  // virtiofsd reads and writes guest memory: it must be shared with it. Otherwise it is private, so that the kernel may use huge pages for
  // it.
  if (has_virtiofs(config)) return fmt::format("memory-backend-memfd,id=memory,size={}M,share=on", config.memory_mib);
  return fmt::format("memory-backend-ram,id=memory,size={}M", config.memory_mib);
}

void add_share(std::vector<std::string>& line, const VmConfig& config, const QemuPaths& paths, const QemuDescriptors& fds) {
  if (paths.share.empty()) return;
  if (config.share == ShareType::Virtiofs) {
    line.insert(line.end(), {"-chardev", fmt::format("socket,id=share,fd={}", fds.virtiofsd)});
    line.insert(line.end(), {"-device", device(config, "vhost-user-fs", fmt::format("chardev=share,tag={},queue-size=1024", kShareTag))});
  } else {
    // passthrough: owners, modes and devices are the host file's own. remap: inodes of different host file systems stay different in the
    // guest's one.
    line.insert(line.end(), {"-fsdev", fmt::format("local,id=share,path={},security_model=passthrough,multidevs=remap", paths.share)});
    line.insert(line.end(), {"-device", device(config, "virtio-9p", fmt::format("fsdev=share,mount_tag={}", kShareTag))});
  }
}

// Frames go between tap and guest in QEMU itself (no vhost-net: it is not on every node, and is one more piece of the host's kernel that a
// guest reaches).
void add_networks(std::vector<std::string>& line, const VmConfig& config) {
  for (size_t i = 0; i < config.networks.size(); ++i) {
    line.insert(line.end(), {"-netdev", fmt::format("tap,id=net{},fd={},vhost=off", i, config.networks[i].tap)});
    line.insert(line.end(),
                {"-device", device(config, "virtio-net",
                                   fmt::format("netdev=net{},mac={}{}", i, config.networks[i].mac, has_pci(config) ? ",romfile=" : ""))});
  }
}

void add_disks(std::vector<std::string>& line, const VmConfig& config) {
  for (size_t i = 0; i < config.disks.size(); ++i) {
    const VmConfig::Disk& disk = config.disks[i];
    const auto fdset = static_cast<uint32_t>(i + 1);
    line.insert(line.end(), {"-add-fd", fmt::format("fd={},set={}", disk.fd, fdset)});
    line.insert(line.end(), {"-blockdev", disk_backend(disk, fdset)});
    line.insert(line.end(), {"-device", device(config, "virtio-blk", fmt::format("drive={},serial={}", disk.serial, disk.serial))});
  }
}

// Ports for what is plugged in later. They are empty bridges: a device cannot be added to the root bus itself.
void add_slots(std::vector<std::string>& line, const VmConfig& config) {
  if (!has_pci(config)) return;
  for (uint32_t slot = 1; slot <= config.hotplug_slots; ++slot)
    line.insert(line.end(), {"-device", fmt::format("pcie-root-port,id=slot{},chassis={},slot={}", slot, slot, slot)});
}

// Memory to come is one device, whose guest is asked to take more of it (virtio-mem): no slots to run out of, in steps of 2 MiB.
void add_growth(std::vector<std::string>& line, const VmConfig& config) {
  const uint64_t more = growth_mib(config);
  if (more == 0) return;
  if (has_virtiofs(config))
    line.insert(line.end(), {"-object", fmt::format("memory-backend-memfd,id=more,size={}M,share=on,reserve=off", more)});
  else
    line.insert(line.end(), {"-object", fmt::format("memory-backend-ram,id=more,size={}M,reserve=off", more)});
  line.insert(line.end(), {"-device", fmt::format("virtio-mem-pci,id={},memdev=more,requested-size=0", kGrowthDevice)});
}

}  // namespace

uint64_t growth_mib(const VmConfig& config) {
  constexpr uint64_t kBlock = 128;  // what a kernel adds at once
  if (!can_grow(config) || config.max_memory_mib < config.memory_mib + kBlock) return 0;
  return (config.max_memory_mib - config.memory_mib) / kBlock * kBlock;
}

uint32_t most_vcpus(const VmConfig& config) { return can_add_processors(config) ? std::max(config.vcpus, config.max_vcpus) : config.vcpus; }

std::string hotplug_cpu(const VmConfig& config, uint32_t index) {
  return nlohmann::json{{"driver", fmt::format("{}-x86_64-cpu", cpu_model(config))},
                        {"id", fmt::format("cpu{}", index)},
                        {"socket-id", index},
                        {"core-id", 0},
                        {"thread-id", 0}}
      .dump();
}

// Past the node's page cache: it would hold everything twice, and other users of the device (a node that takes the volume over) would see
// old bytes. Without QEMU's own locks, which are for image files.
std::string disk_backend(const VmConfig::Disk& disk, uint32_t fdset) {
  return nlohmann::json{{"driver", "host_device"},    {"node-name", disk.serial},
                        {"read-only", disk.readonly}, {"filename", fmt::format("/dev/fdset/{}", fdset)},
                        {"locking", "off"},           {"discard", "unmap"},
                        {"cache", {{"direct", true}}}}
      .dump();
}

std::string guest_command_line(const VmConfig& config, uint64_t tsc_khz) {
  std::vector<std::string> words = {
      "console=ttyS0",      "quiet",
      "panic=-1",            // reboot at once, which ends QEMU (-no-reboot)
      "reboot=t",            // by triple fault: needs no device
      "cryptomgr.notests",   // self-tests of ciphers: 20 ms
      "no_timer_check",      // do not look whether the timer interrupt arrives
      "noreplace-smp",       // do not patch out locks for one CPU: 150 ms of retranslation under emulation
      "swiotlb=noforce",     // no bounce buffers
      "pty.legacy_count=0",  // no 256 BSD terminals
      "8250.nr_uarts=1",    "i8042.noaux", "i8042.nomux", "i8042.nopnp", "i8042.dumbkbd", "random.trust_cpu=on",
  };
  if (config.accel == Accel::Tcg) {
    // Not nolapic_timer, though calibrating the local APIC takes 0.1 s: machine "microvm" has no other timer whose interrupts arrive, and a
    // guest would sleep for ever. Calibrating the TSC against an emulated timer is slow, and fails now and then: the guest hangs.
    if (tsc_khz != 0) words.push_back(fmt::format("tsc_early_khz={}", tsc_khz));
    words.push_back("mitigations=off");  // against attacks on a real CPU's speculation: an emulated one has none
  }
  // Machine "microvm" does not tell the kernel that it may drive its ports: without this nothing that is plugged in is seen.
  if (config.hotplug_slots > 0 && config.machine == "microvm" && has_pci(config)) words.push_back("pcie_ports=native");
  if (growth_mib(config) > 0) words.push_back("memhp_default_state=online");
  if (!config.kernel_parameters.empty()) words.push_back(config.kernel_parameters);
  return fmt::format("{}", fmt::join(words, " "));
}

std::vector<std::string> qemu_command_line(const VmConfig& config, const QemuPaths& paths, const QemuDescriptors& fds, uint64_t tsc_khz) {
  std::vector<std::string> line = {
      paths.program,
      "-name",
      fmt::format("caisson-{}", config.id),
      // Nothing but what is named here.
      "-nodefaults",
      "-no-user-config",
      "-display",
      "none",
      "-no-reboot",
      "-machine",
      machine(config),
      "-accel",
      accelerator(config),
      "-cpu",
      cpu_model(config),
      "-smp",
      processors(config),
      "-m",
      growth_mib(config) > 0 ? fmt::format("{}M,maxmem={}M", config.memory_mib, config.memory_mib + growth_mib(config))
                             : fmt::format("{}M", config.memory_mib),
      "-object",
      memory(config),
      "-kernel",
      paths.kernel,
      "-initrd",
      paths.initrd,
      "-append",
      guest_command_line(config, tsc_khz),
      "-chardev",
      fmt::format("socket,id=qmp,fd={}", fds.qmp),
      "-mon",
      "chardev=qmp,mode=control",
      "-chardev",
      fmt::format("socket,id=console,fd={}", fds.console),
      "-serial",
      "chardev:console",
      // Port 0 is reserved for a console: the agent's is 1.
      "-device",
      device(config, "virtio-serial", "max_ports=2"),
      "-chardev",
      fmt::format("socket,id=agent,fd={}", fds.agent),
      "-device",
      fmt::format("virtserialport,nr=1,chardev=agent,name={}", kAgentPort),
      "-device",
      device(config, "virtio-rng"),
  };
  add_share(line, config, paths, fds);
  add_networks(line, config);
  add_disks(line, config);
  add_slots(line, config);
  add_growth(line, config);
  if (config.settings.jail)
    line.insert(line.end(), {"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"});
  return line;
}

uint64_t host_tsc_khz() {
  struct Sample {
    timespec time{};
    uint64_t ticks = 0;
    Sample() {
      clock_gettime(CLOCK_MONOTONIC_RAW, &time);
      ticks = __rdtsc();
    }
  };
  constexpr int64_t kLeastNanos = 2000000;
  static const Sample first;
  for (;;) {
    const Sample now;
    const int64_t nanos = (now.time.tv_sec - first.time.tv_sec) * 1000000000LL + now.time.tv_nsec - first.time.tv_nsec;
    if (nanos >= kLeastNanos) {
      const auto khz = static_cast<uint64_t>(static_cast<double>(now.ticks - first.ticks) * 1e6 / static_cast<double>(nanos));
      // Below 100 MHz or above 10 GHz it is no counter of cycles, or it has jumped.
      return khz > 100000 && khz < 10000000 ? khz : 0;
    }
    const timespec rest{0, kLeastNanos - nanos};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, nullptr);
  }
}

}  // namespace caisson::microvm
