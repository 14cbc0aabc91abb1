// The container's terminal: a pty of its own devpts.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace caisson::container {

struct Console {
  UniqueFd master, slave;
  std::string name;  // "/dev/pts/0"
};
// A new pty of the devpts below root; of the host's where the container has none and host_fallback is set. The slave's size is
// process.consoleSize.
Result<Console> open_console(const oci::Process& process, int root, bool host_fallback);

// Binds the slave over /dev/console.
Result<void> mount_console(const Console& console, int root);

// Sends the master to whoever listens at the console socket (runc's protocol: SCM_RIGHTS, the bytes are the pty's name) and makes the slave
// standard input, output and error of this process, and, since it leads a session, its controlling terminal.
Result<void> use_console(Console console, int console_socket);

}  // namespace caisson::container
