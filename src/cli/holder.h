// Holder: a tiny process that stands on this host for a process inside a sandbox: it ends when that one ends, with the same status, and
// passes on the signals that it gets. An engine's --pid-file names it where the real process is not the engine's to wait for: every exec,
// and everything in a micro-VM.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
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

// A holder that we have forked. Killed and reaped with this object, unless it has come to wait for its process.
class HolderProcess {
 public:
  // Forks the holder, in its network, IPC and UTS namespaces: hooks may be told its pid, before there is a process to wait for.
  static Result<HolderProcess> start(const HolderRequest& request);
  HolderProcess(HolderProcess&& other) noexcept : pid_(std::exchange(other.pid_, 0)), talk_(std::move(other.talk_)) {}
  HolderProcess& operator=(HolderProcess&&) = delete;
  ~HolderProcess();

  pid_t pid() const { return pid_; }
  // The process is there: the holder enters its root file system and waits. From now on it is on its own: our child until we end, then our
  // subreaper's (conmon's).
  Result<pid_t> wait_for_process();

 private:
  HolderProcess(pid_t pid, UniqueFd talk) : pid_(pid), talk_(std::move(talk)) {}
  Result<void> answer();

  pid_t pid_ = 0;
  UniqueFd talk_;
};

// Both steps at once: returns the holder's pid when it waits for the process.
Result<pid_t> start_holder(const HolderRequest& request);

// Remembers where the kernel shows this program's arguments, so that a holder can say what it is in ps(1). Call it first in main.
void remember_arguments(int argc, char** argv);

}  // namespace caisson::cli
