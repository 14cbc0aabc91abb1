// A volume that kubelet's atomic writer keeps (configMap, secret, projected, downwardAPI), mirrored in memory of the guest, so that
// programs which wait for its updates by inotify(7) are told: no transport of files carries such events.
#pragma once

#include <string>

#include "base/result.h"

namespace caisson::agent {

// Makes the folder target, on a file system of the guest's own, what source is now, in the order in which the atomic writer does it: first
// the new data, then the link ..data, by one rename(2), then what has become unneeded goes. A reader of target sees the old data or the
// new. source changes meanwhile: it is read again. What is in source and not the writer's is left out. Blocks. Errors: EINVAL: source is
// not such a folder. target then is as before.
Result<void> mirror_volume(const std::string& source, const std::string& target);

}  // namespace caisson::agent
