// What families of system calls that make and take descriptors share.
#pragma once

#include <sys/resource.h>

#include <memory>

#include "kernel/syscalls/table.h"
#include "kernel/task/task.h"
#include "kernel/vfs/file.h"

namespace caisson::kernel {

// Gives the task a descriptor for the file: the lowest free one. EMFILE.
inline Result<long> install(Task& task, FileRef file, bool close_on_exec) {
  return static_cast<long>(TRY(task.fds->add(std::move(file), close_on_exec, task.group->limit(RLIMIT_NOFILE).rlim_cur)));
}

// The file of a descriptor as the kind that a call needs; `otherwise` where it is of another. EBADF.
template <typename Kind>
Result<std::shared_ptr<Kind>> file_as(Task& task, Fd fd, int otherwise) {
  FileRef file = TRY(task.fds->get_usable(number(fd)));
  auto kind = std::dynamic_pointer_cast<Kind>(std::move(file));
  if (!kind) return Errno(otherwise);
  return kind;
}

}  // namespace caisson::kernel
