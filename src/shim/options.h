// What containerd's configuration gives a runtime handler, as our own configuration.
#pragma once

#include "base/result.h"
#include "containerd.pb.h"
#include "sandbox/config.h"

namespace caisson::shim {

// runtimeoptions.v1.Options: config_path names a file, config_body is one. Other options (containerd.runc.v1.Options) and none: the default
// file.
Result<sandbox::RuntimeConfig> config_from_options(const containerd::Any& options);

// "auto" becomes what this node can do; a name that is not an isolation is EINVAL.
Result<std::string> resolve_isolation(const sandbox::RuntimeConfig& config);

// The isolation that a shim's program name asks for: containerd-shim-caisson-vm-v2 is "microvm"; "" for containerd-shim-caisson-v2.
std::string isolation_of_program(const std::string& argv0);

}  // namespace caisson::shim
