// A jail's root file system. For jail.cc only.
#pragma once

#include "microvm/jail/jail.h"

namespace caisson::microvm {

// In the jailed child: moves into a mount namespace of its own whose root is as the specification says.
Result<void> enter_jail_root(const JailSpec& spec);

}  // namespace caisson::microvm
