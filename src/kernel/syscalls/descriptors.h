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

// One read or write at a place of the file, as pread(2) and pwrite(2), but for files that have no places, too. (io.cc)
Result<long> transfer_at(Task& task, Fd fd, IoBuffer buffer, off_t offset, bool writes);
// A file of `now` bytes is to have `wanted` (truncate, fallocate): beyond RLIMIT_FSIZE SIGXFSZ is sent, and EFBIG.
Result<void> check_new_size(Task& task, off_t now, off_t wanted);

}  // namespace caisson::kernel
