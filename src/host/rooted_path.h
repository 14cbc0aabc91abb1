// Paths inside a root file system that may be hostile: its symbolic links are followed as a process chrooted there would follow them, and
// never lead outside.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::host {

enum class Missing { Fail, MakeFolder, MakeFile };  // what to do where the last component is missing; missing parents are made with it

struct RootedPath {
  UniqueFd fd;       // O_PATH
  std::string path;  // without symbolic links, from the root: "/dev/pts"
};
// Opens path below the directory root (O_PATH or not). Each component is opened by itself without following links, links are read and
// resolved here, and ".." goes back to the descriptor that we came from: whatever changes meanwhile, the result was reached from root
// downwards.
Result<RootedPath> open_in_root(int root, const std::string& path, Missing missing = Missing::Fail, mode_t folder_mode = 0755);

// The folder that holds path's last component, made if missing, and that component's name: for making nodes and links, which must not
// follow what is there.
struct RootedParent {
  UniqueFd folder;   // O_PATH
  std::string name;  // never empty, "." or ".."
};
Result<RootedParent> open_parent_in_root(int root, const std::string& path);

}  // namespace caisson::host
