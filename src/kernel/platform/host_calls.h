// The host's calls that the platform makes, wrapped once.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernel/errno.h"

struct timespec;

namespace caisson::kernel {

// futex(2), shared between processes. wait: returns when woken, when *word != expected, at a signal, or at the timeout.
void futex_wait(const uint32_t* word, uint32_t expected, const timespec* timeout = nullptr);
void futex_wake(const uint32_t* word);
// The same for words of this process only. False: the timeout (absolute, CLOCK_MONOTONIC, nanoseconds; -1: none) has passed.
bool futex_wait_private(const uint32_t* word, uint32_t expected, int64_t deadline_ns);
void futex_wake_private(const uint32_t* word);

// One message of one byte with descriptors; does not block.
Result<void> send_descriptors(int socket, std::span<const int> fds);
// The process that wrote the next waiting byte, by its credentials; EAGAIN if there is none.
Result<pid_t> receive_writer(int socket);

}  // namespace caisson::kernel
