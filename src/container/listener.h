// Getting the seccomp listener out of a process that may not be able to send it any more.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::container {

// Takes descriptor `number` of the process (pidfd_getfd(2)) as soon as it is a seccomp listener; 10 s at most.
Result<UniqueFd> fetch_listener(int pidfd, int number);

}  // namespace caisson::container
