// `appkernel` isolation: containers made as for `namespace`, whose processes run under the application kernel (src/kernel). Each container
// has a kernel process of its own, which is the init of its PID namespace; the host processes that engines see stand for the guest's.
#pragma once

#include <functional>
#include <memory>

#include "sandbox/process.h"

namespace caisson::appkernel {

Result<std::unique_ptr<sandbox::Sandbox>> make_appkernel_sandbox(host::EventLoop& loop, const sandbox::SandboxContext& context,
                                                                 std::function<void()> ended);

// Hidden subcommands of the programs that link this: runs them and returns their exit status; nothing where argv is not one of them.
std::optional<int> run_hidden_command(int argc, char** argv);

}  // namespace caisson::appkernel
