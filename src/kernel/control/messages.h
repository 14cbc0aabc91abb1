// Messages between the kernel process and those outside: one byte of kind, then a number.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/unique_fd.h"
#include "kernel/errno.h"
#include "kernel/task/kernel.h"

namespace caisson::kernel {

enum class MessageKind : uint32_t {
  Exec = 1,     // sandbox to kernel, with one descriptor: a channel on which one more process will be described
  Process = 2,  // on such a channel, with descriptors: the description, standard streams, preserved ones
  Signal = 3,   // exec to kernel: number is the signal
  Started = 4,  // kernel to exec: number is the pid
  Failed = 5,   // kernel to exec: number is the errno
  Ended = 6,    // kernel to exec: number is the exit status, 128 + N for signal N
};

struct Message {
  MessageKind kind = MessageKind::Exec;
  int32_t number = 0;
  std::vector<UniqueFd> fds;
};

Result<void> send_message(int socket, MessageKind kind, int32_t number, const std::vector<int>& fds = {});
// ECONNRESET: the other end has gone.
Result<Message> receive_message(int socket);

// The whole content of a memory file.
Result<std::string> read_description(int fd);

}  // namespace caisson::kernel
