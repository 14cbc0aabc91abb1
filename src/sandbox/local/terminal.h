// A container process's terminal, reached through the process: the sandbox keeps no descriptor of it, so that the terminal hangs up when
// whoever holds its master goes away.
#pragma once

#include <sys/types.h>

#include "base/result.h"

namespace caisson::sandbox::local {

// TIOCSWINSZ on the terminal that is standard input, output or error of the process. ENOTTY where none is.
Result<void> resize_terminal(pid_t pid, uint32_t rows, uint32_t columns);

}  // namespace caisson::sandbox::local
