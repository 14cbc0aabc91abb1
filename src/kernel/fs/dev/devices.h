// Device files by number: what opening a node gives, wherever the node lies. Nothing of the host's devices can be reached.
#pragma once

#include <sys/types.h>

#include <utility>

#include "kernel/vfs/file.h"

namespace caisson::kernel {

// EPERM: the container may not (device_rules.h). ENXIO, ENODEV: there is no such device.
Result<FileRef> open_device(Task& task, const Path& path, int flags, mode_t type, dev_t device);
// The nodes, links and folders that every container's /dev has (OCI runtime-spec, "Default Devices"); what is there already stays.
Result<void> make_default_devices(Task& task, const Path& folder);
// A FIFO: `identity` says which.
Result<FileRef> open_named_pipe(Task& task, const Path& path, int flags, std::pair<uint64_t, uint64_t> identity);

}  // namespace caisson::kernel
