// Streams: which descriptors go into a sandbox with a new process.
#pragma once

#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "sandbox/sandbox.h"

namespace caisson::cli {

// The proto's side of it, and the descriptors (borrowed) that travel with the request.
struct StreamPlan {
  sandbox::v1::Streams streams;
  std::vector<uint32_t> preserved;  // indices
  std::vector<int> fds;
};

// terminal: only console_socket is passed; else our standard streams, those that are open. preserve: so many descriptors from 3 on; EBADF
// names one that is not open.
Result<StreamPlan> plan_streams(bool terminal, int console_socket, uint32_t preserve);

// How many descriptors systemd's socket activation gave us (sd_listen_fds(3)): LISTEN_FDS. runc passes them in front of --preserve-fds',
// and sets LISTEN_FDS and LISTEN_PID.
uint32_t listen_fds();

// Checks runc's rules: a terminal needs --console-socket unless we relay it ourselves, and --console-socket needs a terminal.
Result<void> check_console(bool terminal, bool foreground, const std::string& console_socket);

}  // namespace caisson::cli
