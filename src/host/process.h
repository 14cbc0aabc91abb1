// Processes: clone3(2) and process descriptors (pidfd_open(2)).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::host {

struct Cloned {
  pid_t pid = 0;  // 0 in the child
  UniqueFd pidfd;
};
// A copy of this process, as fork(2) makes it, with clone3(2)'s CLONE_ flags. Only for single-threaded processes: no atfork handlers run,
// so no lock may be held. The child's exit signal is SIGCHLD, or with CLONE_PARENT that of this process. cgroup: a cgroup v2 folder in
// which it starts (CLONE_INTO_CGROUP); where that is refused it starts where this process is.
Result<Cloned> clone_process(uint64_t flags, int cgroup = -1);

// ESRCH when there is no such process.
Result<UniqueFd> open_pidfd(pid_t pid);
// The same, but only if the process started at that time: else ESRCH.
Result<UniqueFd> open_pidfd(pid_t pid, uint64_t start_time);
Result<void> send_signal(int pidfd, int signal);
// True when the process has ended (it may be a zombie) within the time.
bool wait_for_end(int pidfd, std::chrono::milliseconds timeout);

// Field 22 of /proc/<pid>/stat, in clock ticks since boot: with the pid it names a process for ever. ESRCH when there is none, or only a
// zombie is left of it.
Result<uint64_t> process_start_time(pid_t pid);
// Field 3 of /proc/<pid>/stat: 'R', 'S', 'Z'...
Result<char> process_state(pid_t pid);

// How an ended process ended, in waitpid(2)'s encoding, whoever its parent is; nothing where the kernel (before 6.15) cannot tell.
std::optional<int> exit_status(int pidfd);
// "exited with status 1", "was killed by signal 9 (Killed)".
std::string describe_exit(int wait_status);

// Every signal's disposition to its default and an empty mask: what a new program expects to start with.
void reset_signals();

}  // namespace caisson::host
