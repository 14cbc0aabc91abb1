// Where things are in the mount namespace of a Share.
#pragma once

namespace caisson::microvm {

inline constexpr const char* kShareRoot = "/share";      // the tree that the guest sees
inline constexpr const char* kJailFolder = "/jail";      // empty: a jail mounts its root here, in its own copy of the namespace
inline constexpr const char* kUnconfinedShare = "/mnt";  // without a jail: covers that folder, for the VMM alone

}  // namespace caisson::microvm
