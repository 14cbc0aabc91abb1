// What System V objects there are: the files of /proc/sysvipc, of the reader's IPC namespace.
#pragma once

#include <string>

#include "kernel/errno.h"

namespace caisson::kernel {

class Task;

Result<std::string> list_shared_memory(Task& reader);
Result<std::string> list_semaphores(Task& reader);
Result<std::string> list_message_queues(Task& reader);

}  // namespace caisson::kernel
