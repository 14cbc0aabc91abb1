// What the application kernel needs of a node, as far as that can be seen at a glance. (`caisson check` proves it by running a program.)
#pragma once

#include <string_view>

#include "base/result.h"

namespace caisson::microvm {

// Linux 5.12 or later (mount_setattr), root, and seccomp filters. The error names what is missing.
Result<void> check_appkernel_needs();
// "6.1.0-53-cloud-amd64": is that at least this version? What is no version is not.
bool is_release_at_least(std::string_view release, int major, int minor);

}  // namespace caisson::microvm
