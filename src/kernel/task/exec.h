// Programs: ELF files and scripts into fresh stubs.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "kernel/errno.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/task/task.h"

namespace caisson::kernel {

// A program in a stub of its own, ready to run.
struct LoadedProgram {
  std::unique_ptr<StubThread> stub;
  abi::Registers regs{};
  std::string name;  // comm
  CredentialsRef creds;
  uint32_t personality = 0;
};

struct ExecRequest {
  FileRef file;      // the program
  std::string path;  // as the caller named it: AT_EXECFN, scripts' argument
  std::vector<std::string> arguments, environment;
};

// Loads for `task`, whose files, identity and limits count; nothing of the task changes.
Result<LoadedProgram> load_program(Task& task, ExecRequest request);

// execve(2): replaces the task's process by the program. On success the task's registers are the new program's.
Result<void> exec_program(Task& task, ExecRequest request);

// /proc/sys/kernel/randomize_va_space, of the whole kernel: 0 nothing is random, 1 all but the heap's beginning, 2 all.
std::atomic<int>& address_randomisation();

// Opens a file for exec: a regular file with the right to execute it, on a mount that allows it.
Result<FileRef> open_program(Task& task, int dirfd, const std::string& path, unsigned walk_flags);

}  // namespace caisson::kernel
