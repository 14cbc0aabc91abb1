// The guest's first (and only) root file system: the agent as /init, and the modules that its kernel needs.
//   /init                  caisson-agent
//   /lib/modules/*.ko      modules
//   /etc/caisson/modules   their paths, one per line, in the order in which the agent loads them
// with /dev/console, /dev/null and empty folders to mount on.
#pragma once

#include <string>

#include "base/result.h"
#include "microvm/guest/store.h"

namespace caisson::microvm {

// The agent: beside this program, or where it is installed. ENOENT with the places.
Result<std::string> find_agent();

// The initrd for an image and an agent, in the image's folder (or, where that cannot be written, in /run/caisson-guest): assembled when
// there is none for just this agent and image, by rename, so that any number of processes may ask at once; found again by the agent file's
// identity (device, inode, size, times), so that asking costs microseconds.
Result<std::string> prepare_initrd(const std::string& image_folder, const ImageManifest& manifest, const std::string& agent);

// The archive itself.
Result<std::string> assemble_initrd(const std::string& image_folder, const ImageManifest& manifest, const std::string& agent);

}  // namespace caisson::microvm
