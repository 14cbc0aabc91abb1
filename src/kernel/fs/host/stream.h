// HostStream: a descriptor that came from outside (standard streams): a pipe, a terminal, a socket, a file. Used as it is; its other end
// belongs to somebody else.
#pragma once

#include <memory>

#include "base/unique_fd.h"
#include "kernel/platform/watcher.h"
#include "kernel/vfs/file.h"

namespace caisson::kernel {

// flags: O_ACCMODE and O_APPEND are taken from the descriptor itself.
Result<FileRef> make_host_stream(HostWatcher& watcher, UniqueFd fd);

}  // namespace caisson::kernel
