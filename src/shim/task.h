// A task as containerd sees it: a container's init process and its exec processes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "containerd.pb.h"
#include "sandbox/sandbox.h"
#include "shim/streams.h"

namespace caisson::shim {

// One process. Legal orders: Created -> Starting -> Running -> Exited; Created -> Exited (killed before its start).
struct Process {
  enum class Phase { Created, Starting, Running, Exited };

  std::string container_id;
  std::string exec_id;  // "" is init
  StreamNames names;
  std::unique_ptr<Streams> streams;
  std::string spec;  // exec: the OCI process, JSON
  uint32_t pid = 0;
  Phase phase = Phase::Created;
  uint32_t exit_status = 0;
  int64_t exited_at_unix_nanos = 0;
  bool exit_known = false;  // the sandbox has told; the event may still have to wait for start's or for the execs'
  std::vector<sandbox::Reply<containerd::WaitResponse>> waiters;
};

struct Task {
  std::string id;
  std::string bundle;
  bool has_rootfs_mounts = false;
  bool paused = false;
  std::shared_ptr<Process> init;
  std::map<std::string, std::shared_ptr<Process>> execs;

  // ENOENT names what is missing.
  Result<std::shared_ptr<Process>> find(const std::string& exec_id) const;
  bool has_live_exec() const;
};

}  // namespace caisson::shim
