// Executing this program again, from a file that a container cannot write to: through /proc/PID/exe a container's root could otherwise
// reach the runtime's own file on the host (CVE-2019-5736).
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::sandbox {

// A descriptor to execveat(2) with AT_EMPTY_PATH: /proc/self/exe on a read-only mount of its own, or, where such a mount is not permitted,
// a sealed copy in memory.
Result<UniqueFd> open_own_program();
// The second way alone.
Result<UniqueFd> copy_own_program();

// The folder of this program's file, "" where that cannot be told: what was installed beside it is there. A process that was executed from
// such a descriptor is told by this variable of its environment.
std::string own_program_folder();
inline constexpr const char* kProgramFolderVariable = "CAISSON_PROGRAM_FOLDER";

}  // namespace caisson::sandbox
