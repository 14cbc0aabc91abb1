// What is passed to kernel processes and stand-ins: channels, descriptions, the log.
#pragma once

#include <string>
#include <utility>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::appkernel {

// Two ends of a channel for kernel::Message.
Result<std::pair<UniqueFd, UniqueFd>> channel_pair();
// The same; the first end is ours and never waits: a kernel process that does not read (it is paused) must not hold us up.
Result<std::pair<UniqueFd, UniqueFd>> channel_to_kernel();
// A description (kernel::make_description) of what is to be done.
Result<UniqueFd> memory_file(const char* name, const std::string& content);
// A copy above the standard streams; of a negative number /dev/null.
Result<UniqueFd> copy_of(int fd);
// A copy of this process's log, /dev/null where there is none.
Result<UniqueFd> log_descriptor();

}  // namespace caisson::appkernel
