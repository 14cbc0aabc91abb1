// QEMU's command line for a VM: a pure function, so that tests can read it.
#pragma once

#include <string>
#include <vector>

#include "microvm/hypervisor.h"

namespace caisson::microvm {

// Descriptors that QEMU inherits, all of connected sockets.
struct QemuDescriptors {
  int qmp = -1;        // control, QMP
  int console = -1;    // serial port: the guest kernel's messages
  int agent = -1;      // kAgentPort
  int virtiofsd = -1;  // vhost-user, with ShareType::Virtiofs
};

struct QemuPaths {
  std::string program;         // host path
  std::string kernel, initrd;  // as QEMU sees them
  std::string share;           // folder to serve by 9p, as QEMU sees it; "" no share
};

std::vector<std::string> qemu_command_line(const VmConfig& config, const QemuPaths& paths, const QemuDescriptors& fds, uint64_t tsc_khz);

// What a disk is to QEMU: the member of -blockdev and blockdev-add, a JSON object. fdset: where its descriptor has been put (add-fd).
std::string disk_backend(const VmConfig::Disk& disk, uint32_t fdset);
inline constexpr uint32_t kFirstHotFdset = 100;  // those below are of disks given at start

// The memory that can be added lies in one device of this size, in MiB; 0: none.
uint64_t growth_mib(const VmConfig& config);
inline constexpr const char* kGrowthDevice = "growth";

// As many processors as it can have, and the member of device_add, a JSON object, for the one with this index.
uint32_t most_vcpus(const VmConfig& config);
std::string hotplug_cpu(const VmConfig& config, uint32_t index);

// The guest kernel's command line.
std::string guest_command_line(const VmConfig& config, uint64_t tsc_khz);

// Frequency of this machine's time stamp counter, measured against CLOCK_MONOTONIC_RAW over at least 2 ms since the first call; 0 where it
// is not constant.
uint64_t host_tsc_khz();

}  // namespace caisson::microvm
