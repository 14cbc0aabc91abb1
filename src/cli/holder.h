// Holder: a tiny process that stands on this host for a process inside a sandbox: it ends when that one ends, with the same status, and
// passes on the signals that it gets. An engine's --pid-file names it where the real process is not the engine's to wait for: every exec,
// and everything in a micro-VM.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace caisson::cli {

struct HolderRequest {
  std::string socket;  // the sandbox's
  std::string container_id;
  std::string exec_id;  // "": the container's init
  // Where given, the holder lives in a mount namespace of its own with this as its root, so that engines which join /proc/PID/ns/mnt see
  // the container's files.
  std::string rootfs;
  // Bound below it, in this order, where their destinations are there: the container's volumes.
  struct Bind {
    std::string source, destination;
    bool readonly = false;
  };
  std::vector<Bind> binds;
  // Network, IPC and UTS namespaces that the container has of its own or joins: the holder does the same, so that an engine which takes
  // /proc/PID/ns/... for the container's, as podman does for pods, never takes the node's.
  std::vector<oci::Namespace> namespaces;
};

// Forks the holder; returns its pid when it waits for the process. It is our child until we end, then our subreaper's (conmon's).
Result<pid_t> start_holder(const HolderRequest& request);

// Remembers where the kernel shows this program's arguments, so that a holder can say what it is in ps(1). Call it first in main.
void remember_arguments(int argc, char** argv);

}  // namespace caisson::cli
