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
  Exec = 1,     // sandbox to kernel, with one descriptor: a channel on which one more process will be described; number: which exec it is
  Process = 2,  // on such a channel, with descriptors: the description, standard streams, preserved ones
  Signal = 3,   // exec to kernel: number is the signal
  Started = 4,  // kernel to exec: number is the pid
  Failed = 5,   // kernel to exec: number is the errno
  Ended = 6,    // kernel to exec: number is the exit status, 128 + N for signal N
  // Sandbox to kernel:
  Limits = 7,     // with one descriptor: v1::Limits, from now on
  Ask = 8,        // with one descriptor: a channel for one Answer; number is a Question
  SignalAll = 9,  // number is the signal, for every process
  Strace = 10,    // number: 1 on, 0 off
  Answer = 11,    // kernel to who asks, with one descriptor: v1::Processes
  // A container that is to live in the kernel process:
  Join = 12,  // sandbox to kernel (number: capabilities that the broker needs for it), with two descriptors: a channel about this container
              // alone, and one to its stand-in
  Welcome = 13,  // kernel to stand-in, with one descriptor where the kernel has a user namespace of its own; number: 1 where the container
                 // has been handed over already, and is held for Begin
  Mounts = 14,   // stand-in to kernel, with descriptors: the next ones of Start::host_mounts
  Container = 15,  // stand-in to kernel, with descriptors: v1::Start, the zygote's socket and pidfd, standard streams, preserved ones.
                   // Answered as Process is; Signal as there. number: 1 to be held: made, but answered by another Welcome
  Place = 16,      // sandbox to kernel, before anything else, on a channel of its own: files of cgroups that a thread writes itself into
  Broker =
      17,  // sandbox to kernel, with one descriptor: the channel to a network broker in the place of the one before; number: what it has
  Begin = 18,  // stand-in to kernel: the first process of a container that is held runs from now on. Answered as Container is
};

enum class Question : int32_t {
  Count = 0,      // of tasks only
  Processes = 1,  // what ps(1) tells
  Tasks = 2,      // and what each thread is doing
};

struct Message {
  MessageKind kind = MessageKind::Exec;
  int32_t number = 0;
  std::vector<UniqueFd> fds;
};

inline constexpr size_t kMostDescriptors = 128;     // of a message
inline constexpr size_t kMostMounts = 4096;         // that a stand-in hands over
inline constexpr size_t kContainerDescriptors = 3;  // of Container, before the streams

Result<void> send_message(int socket, MessageKind kind, int32_t number, const std::vector<int>& fds = {});
// ECONNRESET: the other end has gone.
Result<Message> receive_message(int socket);

// A memory file of that name and content, for a descriptor of a message.
Result<UniqueFd> make_description(const char* name, const std::string& content);
// The whole content of a memory file.
Result<std::string> read_description(int fd);

}  // namespace caisson::kernel
