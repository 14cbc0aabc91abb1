// Sysfs: what programs look for in it: CPUs, memory, NUMA nodes, network interfaces by name.
#pragma once

#include <memory>

#include "kernel/vfs/path.h"

namespace caisson::kernel {

Result<std::shared_ptr<FileSystem>> make_sysfs_file_system();

}  // namespace caisson::kernel
