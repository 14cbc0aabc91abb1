// Kernel modules for a guest whose kernel does not have everything built in.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace caisson::microvm {

struct WantedModule {
  std::string name;       // "virtio_console"; '-' and '_' are the same
  bool required = false;  // else: left out where the kernel has no such module (built in, or not at all)
};

// Copies the wanted modules and those they depend on (by their .modinfo, so no modules.dep is needed) from the tree below lib_modules to
// the folder `to`, decompressed. Returns the files' names ("fuse.ko") in the order in which they must be loaded. ENOENT naming a required
// module that is not there.
Result<std::vector<std::string>> collect_modules(const std::string& lib_modules, const std::vector<WantedModule>& wanted,
                                                 const std::string& to);

}  // namespace caisson::microvm
