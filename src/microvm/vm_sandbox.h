// VmSandbox: `microvm` isolation. Boots a VM for the first container, shares root file systems and volumes with it, and forwards to the
// agent.
#pragma once

#include <functional>
#include <memory>

#include "sandbox/process.h"

namespace caisson::microvm {

Result<std::unique_ptr<sandbox::Sandbox>> make_vm_sandbox(host::EventLoop& loop, const sandbox::SandboxContext& context,
                                                          std::function<void()> ended);

}  // namespace caisson::microvm
