// What containerd's configuration gives a runtime handler, as our own configuration.
#pragma once

#include "base/result.h"
#include "containerd.pb.h"
#include "sandbox/config.h"

namespace caisson::shim {

// runtimeoptions.v1.Options: config_path names a file, config_body is one. Other options (containerd.runc.v1.Options) and none: the default
// file.
Result<sandbox::RuntimeConfig> config_from_options(const containerd::Any& options);

// The isolation of a pod whose first container's config.json is spec: the program's name says it, else the annotation io.caisson.isolation,
// else the configuration, where "auto" becomes what this node can do. A pod on the node's network gets `namespace` in place of `microvm`
// where the configuration says so (host_network), else ENOTSUP. A name that is not an isolation is EINVAL.
Result<std::string> choose_isolation(const sandbox::RuntimeConfig& config, const std::string& program_isolation, const std::string& spec);

// The isolation that a shim's program name asks for: containerd-shim-caisson-vm-v2 is "microvm"; "" for containerd-shim-caisson-v2.
std::string isolation_of_program(const std::string& argv0);

}  // namespace caisson::shim
