#include "microvm/hypervisor.h"

#include "microvm/accel.h"
#include "microvm/qemu/qemu.h"
#include "microvm/virtiofsd.h"

namespace caisson::microvm {
namespace {

Result<void> choose_accel(const sandbox::MicrovmConfig& settings, VmConfig& config) {
  if (settings.accel == "kvm" || settings.accel == "tcg") {
    config.accel = settings.accel == "kvm" ? Accel::Kvm : Accel::Tcg;
    return {};
  }
  if (settings.accel != "auto")
    return make_error(EINVAL, "microvm.accel is \"{}\", and can be \"auto\", \"kvm\" or \"tcg\"", settings.accel);
  config.accel = remembered_kvm() ? Accel::Kvm : Accel::Tcg;
  return {};
}

Result<void> choose_share(const sandbox::MicrovmConfig& settings, VmConfig& config) {
  // virtiofs does all that files can do. QEMU's 9p server cannot make special files (7.2, Debian), and its cached mode writes page by page.
  if (settings.share == "auto" || settings.share == "virtiofs") {
    config.share = ShareType::Virtiofs;
    auto found = find_virtiofsd(settings);
    if (found || settings.share == "virtiofs" || !config.guest.has_9p) return found ? Result<void>() : std::move(found).error();
    config.share = ShareType::NineP;
    return {};
  }
  if (settings.share != "9p")
    return make_error(EINVAL, "microvm.share is \"{}\", and can be \"auto\", \"virtiofs\" or \"9p\"", settings.share);
  config.share = ShareType::NineP;
  if (config.guest.has_9p) return {};
  return make_error(EINVAL, "the {} guest kernel has no 9p: set microvm.share to \"virtiofs\", or use 'caisson guest build --tuned'",
                    config.guest.name);
}

Result<void> choose_machine(const sandbox::MicrovmConfig& settings, VmConfig& config) {
  if (settings.machine != "auto" && settings.machine != "microvm" && settings.machine != "q35")
    return make_error(EINVAL, "microvm.machine is \"{}\", and can be \"auto\", \"q35\" or \"microvm\"", settings.machine);
  // With virtiofs machine "microvm" has PCI and ACPI, as our kernels need it; with 9p it has neither disks nor PCI, and the kernel is told
  // of its devices on the command line.
  const bool fits = config.share == ShareType::Virtiofs ? config.guest.name != "custom" : config.guest.has_mmio;
  config.machine = settings.machine != "auto" ? settings.machine : fits ? "microvm" : "q35";
  if (config.machine == "microvm" && config.share == ShareType::NineP && !config.guest.has_mmio)
    return make_error(EINVAL,
                      "the {} guest kernel with 9p does not boot on machine \"microvm\": it does not take virtio-mmio devices from its "
                      "command line; set microvm.machine to \"q35\"",
                      config.guest.name);
  return {};
}

}  // namespace

Result<void> choose_platform(const sandbox::MicrovmConfig& settings, VmConfig& config) {
  config.settings = settings;
  config.kernel_parameters = settings.kernel_parameters;
  config.guest = TRY(find_guest_image(settings));
  TRY(choose_accel(settings, config));
  TRY(choose_share(settings, config));
  return choose_machine(settings, config);
}

// QEMU's vhost-user-fs works on PCI only; without it machine "microvm" has its devices on virtio-mmio, which its kernel finds faster.
bool has_pci(const VmConfig& config) {
  return config.machine != "microvm" || (config.share == ShareType::Virtiofs && config.share_namespace >= 0);
}

bool can_grow(const VmConfig& config) { return config.machine == "q35"; }

// Newer kernels (6.12 of the tuned image, not 6.1 of the stock one) count processors that may come only where they know the hypervisor, and
// QEMU's emulation is none that they know (acpi_is_processor_usable()).
bool can_add_processors(const VmConfig& config) { return can_grow(config) && (config.accel == Accel::Kvm || config.guest.name == "stock"); }

void Hypervisor::add_disk(const VmConfig::Disk&, std::function<void(Result<uint32_t>)> done) {
  done(make_error(ENOTSUP, "this hypervisor cannot add disks to a running machine"));
}
void Hypervisor::add_network(const VmConfig::Network&, std::function<void(Result<uint32_t>)> done) {
  done(make_error(ENOTSUP, "this hypervisor cannot add network interfaces to a running machine"));
}
void Hypervisor::grow(uint64_t, uint32_t, std::function<void(Result<void>)> done) {
  done(make_error(ENOTSUP, "this hypervisor cannot add memory and processors to a running machine"));
}

Result<std::unique_ptr<Hypervisor>> make_hypervisor(host::EventLoop& loop, const sandbox::MicrovmConfig& config) {
  if (config.hypervisor == "qemu") return make_qemu(loop);
  return make_error(EINVAL, "microvm.hypervisor is \"{}\", and can be \"qemu\"", config.hypervisor);
}

}  // namespace caisson::microvm
