// Hypervisor: one virtual machine of one VMM. A folder per implementation (qemu/), all with the same files.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "host/cgroup.h"
#include "host/event_loop.h"
#include "sandbox/config.h"
#include "sandbox/leftovers.h"

namespace caisson::microvm {

enum class Accel { Kvm, Tcg };
enum class ShareType { Virtiofs, NineP };

struct GuestImage {
  std::string name;    // "stock", "tuned", "custom"
  std::string kernel;  // vmlinux (ELF with a PVH note)
  std::string initrd;
  bool has_9p = false;
  bool has_mmio = false;  // takes virtio-mmio devices from its command line, as machine `microvm` without PCI gives them
};

struct VmConfig {
  std::string id;
  std::string dir;  // the sandbox's folder; the VMM's own files go to <dir>/vm
  GuestImage guest;
  Accel accel = Accel::Tcg;
  std::string machine;  // "q35" or "microvm"
  ShareType share = ShareType::Virtiofs;
  // The guest's shared tree (mount tag kShareTag): Share::namespace_fd(), borrowed until start() has returned. What is exposed later
  // reaches the guest too. -1: no share.
  int share_namespace = -1;
  // Network devices: a tap's descriptor (borrowed until start() has returned) and the MAC that the guest's device has.
  struct Network {
    int tap = -1;
    std::string mac;
  };
  std::vector<Network> networks;
  // Disks: a block device's descriptor (borrowed until start() has returned), and the serial number by which the guest knows it.
  struct Disk {
    int fd = -1;
    std::string serial;  // at most 20 characters
    bool readonly = false;
  };
  std::vector<Disk> disks;
  uint32_t hotplug_slots = 0;  // so many devices can be added while it runs; only with has_pci()
  uint32_t vcpus = 1;
  uint64_t memory_mib = 256;
  // It can grow to so much, on machine q35; 0: it cannot.
  uint64_t max_memory_mib = 0;
  uint32_t max_vcpus = 0;
  std::string kernel_parameters;
  sandbox::MicrovmConfig settings;
  host::CgroupPaths cgroup;  // that VMM and helpers are put into; made and removed by the caller; no folders: none
};

// Whether the machine has a PCI bus: without it nothing can be plugged in while it runs.
bool has_pci(const VmConfig& config);
// Whether memory can be added while it runs, and whether processors can.
bool can_grow(const VmConfig& config);
bool can_add_processors(const VmConfig& config);

inline constexpr const char* kShareTag = "caisson";
inline constexpr const char* kAgentPort = "caisson.agent";  // virtio-serial port name in the guest

// Calls return at once; outcomes come on the event loop. Killing the object kills the VMM and its helpers.
class Hypervisor {
 public:
  struct Events {
    std::function<void(UniqueFd agent)> connected;  // the agent port's host side, a connected stream socket, before the guest has opened it
    std::function<void(Error)>
        failed;  // the VMM could not be started, or died; with the last lines of its log. Once; nothing else comes after it
  };
  virtual ~Hypervisor() = default;
  // Starts VMM and helpers, jailed. What must be freed if we die is in leftovers() from before each thing is made; the caller saves it
  // (saved is called with it whenever it grows).
  virtual void start(const VmConfig& config, Events events, std::function<Result<void>(const sandbox::Leftovers&)> save) = 0;
  virtual void pause(std::function<void(Result<void>)> done) = 0;
  virtual void resume(std::function<void(Result<void>)> done) = 0;
  // Plugs a device into the running machine. The descriptor is borrowed until the call has returned. done: the hot-plug slot that it is in.
  // ENOSPC: no slot is free. ENOTSUP: this machine cannot.
  virtual void add_disk(const VmConfig::Disk& disk, std::function<void(Result<uint32_t>)> done);
  virtual void add_network(const VmConfig::Network& network, std::function<void(Result<uint32_t>)> done);
  // So much memory and so many processors from now on; never less than it has. The guest takes them in its own time.
  virtual void grow(uint64_t memory_mib, uint32_t vcpus, std::function<void(Result<void>)> done);
  // SIGKILL to everything; returns when reaped (they die at once).
  virtual void kill() = 0;
  virtual pid_t pid() const = 0;
  virtual std::vector<pid_t> helper_pids() const = 0;
  // The guest console's last lines, for error messages; control characters made harmless.
  virtual std::string console_tail() const = 0;
};

// Chooses guest image, accelerator (from what `caisson check` remembers; TCG where KVM is not proved), machine and share type as the
// configuration asks and as kernel and VMM allow, and puts them with the settings into config. Errors say what does not go together. vcpus,
// memory, id, dir, cgroup and the share are the caller's.
Result<void> choose_platform(const sandbox::MicrovmConfig& settings, VmConfig& config);

Result<std::unique_ptr<Hypervisor>> make_hypervisor(host::EventLoop& loop, const sandbox::MicrovmConfig& config);

// Guest images (guest_image.cc). Finds a built image as the configuration asks; ENOENT with the command that builds it.
Result<GuestImage> find_guest_image(const sandbox::MicrovmConfig& config);
struct BuildOptions {
  bool tuned = false;
  bool force = false;
  bool quiet = false;
  int jobs = 0;  // 0: as many as CPUs
};
// `caisson guest build`: makes the stock or the tuned image in config.guest_cache, with progress on standard error when that is a terminal.
Result<GuestImage> build_guest_image(const sandbox::MicrovmConfig& config, const BuildOptions& options);

// Proves KVM usable by booting the guest under it (check.cc), with the reason where it is not.
struct AccelProof {
  Accel accel = Accel::Tcg;
  bool kvm_usable = false;
  std::string kvm_reason;
};

}  // namespace caisson::microvm
