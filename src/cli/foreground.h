// Foreground: waits for a process in a sandbox as a shell waits for a program: passes signals on, relays a terminal, ends with its status.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::cli {

struct ForegroundRequest {
  std::string socket;  // the sandbox's
  std::string container_id;
  std::string exec_id;  // "": the container's init
  bool start = false;   // the container is created only: start it first
  UniqueFd terminal;    // the pty's master to relay with our standard streams; invalid: nothing to relay
};

// The process's exit status (128 + N for signal N), when all its output has been written. Signals that come meanwhile go to the process.
Result<int> run_in_foreground(ForegroundRequest request);

}  // namespace caisson::cli
