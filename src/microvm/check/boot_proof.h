// A guest booted for real, to prove that it can be: kernel, agent, share.
#pragma once

#include <chrono>
#include <string>

#include "microvm/hypervisor.h"

namespace caisson::microvm {

struct BootProof {
  std::string kernel_release;  // as the guest's agent tells it
  double seconds = 0;          // from the VMM's start to the agent's answer that everything is set up, the share mounted
};

// Boots the guest that `settings` describe (accel "kvm" or "tcg", share "virtiofs" or "9p", or "auto"), and ends it. The error says why it
// cannot be. Blocks, at most limit and a second.
Result<BootProof> prove_boot(const sandbox::MicrovmConfig& settings, std::chrono::seconds limit);

}  // namespace caisson::microvm
