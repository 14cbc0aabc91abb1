// The guest's first steps as PID 1: a root that containers can pivot away from, the kernel's file systems, modules, cgroups, loopback.
#pragma once

#include "base/result.h"

namespace caisson::agent {

// Where the shared tree of the host is mounted (configure.h), and where specs of the micro-VM look for their files.
inline constexpr const char* kShareFolder = "/run/caisson/share";
// Where volumes are mirrored in memory (mirror.h).
inline constexpr const char* kMirrorFolder = "/run/caisson/mirror";

// Does all of it. Called once, before anything else. Errors are fatal for the guest.
Result<void> initialize_guest();

// Writes the error to the console and ends the guest; does not return.
[[noreturn]] void end_guest(const Error& error);

}  // namespace caisson::agent
