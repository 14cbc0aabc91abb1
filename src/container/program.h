// The last steps of a new process, of init and of exec alike: descriptors, confinement, and the user's program.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "container/container.h"
#include "container/credentials.h"
#include "container/labels.h"
#include "container/seccomp.h"

namespace caisson::container {

// Puts the standard streams (/dev/null where there is none) at 0, 1, 2 and the preserved ones at 3, 4..., and moves the channel and the log
// away from there. Every other descriptor becomes close-on-exec, those preserved too until exec_program().
Result<void> arrange_descriptors(Stdio& stdio, UniqueFd& channel);

// From what the runtime may do to what the user's program may: umask, standard streams' owner, labels, no_new_privs, seccomp (before the
// capabilities go where no_new_privs is not there to allow it later), user, capabilities, working directory.
struct Confinement {
  const oci::Process& process;
  const std::optional<SeccompFilter>& seccomp;
  ExecLabels& labels;
  int channel;  // for the seccomp listener
};
Result<void> confine(Confinement confinement);

// args[0] as execve(2) will get it, found through the PATH of process.env.
Result<std::string> find_program(const oci::Process& process);

// Loads the seccomp filter that confine() has left for now, lets the preserved descriptors go through, and calls execve(2). Only returns to
// tell why it failed.
Error exec_program(const oci::Process& process, const std::string& program, const std::optional<SeccompFilter>& seccomp, size_t preserved);

// The same for a program of ours, by its descriptor.
Error exec_stand_in(const oci::Process& process, const StandIn& stand_in, size_t preserved);

}  // namespace caisson::container
