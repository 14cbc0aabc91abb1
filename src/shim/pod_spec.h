// The config.json of the process that holds a pod's namespaces, where the pod has no pause container of its own (the Sandbox API).
#pragma once

#include <string>

#include "base/result.h"
#include "containerd.pb.h"
#include "sandbox.pb.h"

namespace caisson::shim {

// Marks in an argument vector's first word that this program is to hold a pod's namespaces.
inline constexpr const char* kPauseProgram = "/pause";

// From what CreateSandbox says: a kubelet's PodSandboxConfig in its options, netns_path, annotations. program is this program's file, which
// is bound to kPauseProgram. EINVAL for options that cannot be decoded.
Result<std::string> make_pod_spec(const containerd::CreateSandboxRequest& request, const std::string& program);

// Puts a container's config.json into a call that creates it. A kubelet that uses systemd's driver names cgroups as systemd has them,
// "x.slice:prefix:name", and says so nowhere else (containerd's runc options do, for runc alone).
void set_spec(sandbox::v1::CreateContainerRequest& create, std::string spec);

// Body of that process: reaps what is left to it, ends at SIGTERM or SIGINT. Returns the exit status.
int run_pause();

}  // namespace caisson::shim
