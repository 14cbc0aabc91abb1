// Locks on files between the processes of a sandbox: record locks of processes and of open file descriptions (fcntl(2)), and flock(2). They
// are advisory, and other sandboxes that have the same volume do not see them.
//
// Lock: one for all, of the level of inodes; nothing else is taken with it but wait queues.
#pragma once

#include "kernel/errno.h"
#include "kernel/vfs/file.h"

namespace caisson::kernel {

class FdTable;
class Task;

// F_GETLK, F_SETLK, F_SETLKW and F_OFD_*. EAGAIN, EDEADLK, EINVAL, ENOLCK; kRestartSys.
bool is_lock_command(int command);
Result<long> lock_command(Task& task, const FileRef& file, int command, uint64_t argument);
// flock(2). EWOULDBLOCK, EINVAL; kRestartSys.
Result<long> flock_file(Task& task, const FileRef& file, int operation);

// A process closes one of its descriptors of the file: all of its record locks on it go (fcntl(2)).
void release_record_locks(const FdTable& owner, const File& file);
// The owner ends: so do its locks.
void release_locks_of(const FdTable& owner);
void release_locks_of(const File& owner);

// /proc/locks.
std::string lock_table_text();

}  // namespace caisson::kernel
