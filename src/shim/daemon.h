// The shim's daemon: one per pod, serving the task API until containerd shuts it down.
#pragma once

#include <string>

#include "base/result.h"
#include "sandbox/process.h"
#include "shim/arguments.h"
#include "shim/bootstrap.h"

namespace caisson::shim {

// What the daemon is told by `start`, in its environment and by inherited descriptors.
struct DaemonOptions {
  Arguments arguments;
  std::string isolation;      // from the program's name, or ""
  std::string ttrpc_address;  // where events go; "" nowhere
  std::string group;          // the pod's name
  UniqueFd listener;
};

// Serves; returns the exit status.
int run_daemon(DaemonOptions options, const sandbox::SandboxFactory& factory);

// Leaves the handler's options for the daemon to find in its folder.
Result<void> keep_runtime_options(const std::string& folder, const BootstrapRequest& request);

// The folder of a pod's sandbox.
std::string sandbox_folder(const std::string& namespace_, const std::string& group);

}  // namespace caisson::shim
