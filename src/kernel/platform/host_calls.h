// The host's calls that the platform makes, wrapped once.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernel/errno.h"

struct msghdr;
struct timespec;

namespace caisson::kernel {

// futex(2), shared between processes. wait: returns when woken, when *word != expected, at a signal, or at the timeout.
void futex_wait(const uint32_t* word, uint32_t expected, const timespec* timeout = nullptr);
void futex_wake(const uint32_t* word);
// The same for words of this process only. False: the timeout (absolute, CLOCK_MONOTONIC, nanoseconds; -1: none) has passed.
bool futex_wait_private(const uint32_t* word, uint32_t expected, int64_t deadline_ns);
void futex_wake_private(const uint32_t* word);

// Puts descriptors into a message (SCM_RIGHTS, unix(7)); none: nothing. `control` is where they are written, zeroed and aligned as a
// cmsghdr, and must have CMSG_SPACE for them and live until the message is sent. Neither allocates nor fails.
void attach_descriptors(msghdr& message, std::span<char> control, std::span<const int> fds);
// One message of one byte with descriptors; does not block.
Result<void> send_descriptors(int socket, std::span<const int> fds);
// The process that wrote the next waiting byte, by its credentials; EAGAIN if there is none.
Result<pid_t> receive_writer(int socket);

// Takes from this thread what is not in `permitted` (what stays is effective), nor in `bounding` of its bounding set; ambient and
// inheritable sets end up empty (capabilities(7)).
Result<void> limit_capabilities(uint64_t permitted, uint64_t bounding);

}  // namespace caisson::kernel
