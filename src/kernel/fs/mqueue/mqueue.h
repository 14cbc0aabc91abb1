// The file system mqueue: a file for each POSIX message queue of an IPC namespace (mq_overview(7), "Mounting the message queue
// filesystem"). All mounts of one namespace show the same queues.
//
// Locks: those of ipc/message_queue.h.
#pragma once

#include <memory>

#include "kernel/task/namespaces.h"
#include "kernel/vfs/path.h"

namespace caisson::kernel {

std::shared_ptr<FileSystem> make_mqueue_file_system(std::shared_ptr<IpcNamespace> space);

}  // namespace caisson::kernel
