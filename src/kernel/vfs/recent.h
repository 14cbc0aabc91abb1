// Folders of the host that were walked through lately: kept, so that a walk finds their dentries and need not ask the host for each.
//
// A folder that is kept has a descriptor of the host's open, as any that is in use; so there are few, and those of a file system go with
// its last mount, those that are removed at once. Lock: its own, a leaf; nothing is released with it held.
#pragma once

#include "kernel/vfs/path.h"

namespace caisson::kernel {

class RecentFolders {
 public:
  static void keep(const DentryRef& folder);
  // It is deleted.
  static void drop(const Dentry& folder);
  // Nobody can get at it any more.
  static void drop_all(const FileSystem& fs);
};

}  // namespace caisson::kernel
