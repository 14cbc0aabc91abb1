// The container's first process between its clone and its exec.
#pragma once

#include <optional>

#include "container/container.h"
#include "container/seccomp.h"
#include "container/spawn.h"

namespace caisson::container {

// What the new process knows. It is a copy of the creator's memory, so these are plain references.
struct InitContext {
  const oci::Spec& spec;
  const CreateOptions& options;
  Stdio& stdio;
  const std::optional<SeccompFilter>& seccomp;
  const host::CgroupPaths& cgroup;
  UniqueFd channel;     // to the creator (container/note.h); later the start socket
  pid_t outer_pid = 0;  // its own pid as the creator sees it; comes with the first Go

  bool has_namespace(const char* type) const { return spec.find_namespace(type) != nullptr; }
  bool has_fresh_namespace(const char* type) const { return has_fresh(spec, type); }
};

// Whether init puts itself into its cgroup, first of all: that is much quicker than from outside (cgroup v1 has to stop a process to move
// it), but needs the host's rights and mounts.
bool attaches_itself(const oci::Spec& spec);

// Sets everything up, talks with the creator, waits for Start, and becomes the user's program. Its errors go to the creator as notes; it
// never returns.
[[noreturn]] void run_init(InitContext& context);

}  // namespace caisson::container
