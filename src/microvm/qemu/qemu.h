// Hypervisor by QEMU.
#pragma once

#include <memory>

#include "microvm/hypervisor.h"

namespace caisson::microvm {

std::unique_ptr<Hypervisor> make_qemu(host::EventLoop& loop);

// The program: settings.hypervisor_path, or qemu-system-x86_64 in PATH. ENOENT with the package.
Result<std::string> find_qemu(const sandbox::MicrovmConfig& settings);

}  // namespace caisson::microvm
