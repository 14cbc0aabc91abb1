// The worker that reads what the kernel process, which may have been taken, says of its processes.
#include <errno.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kernel/platform/host_rows.h"

namespace caisson::kernel {

const std::vector<CallRow>& answer_calls() {
  using enum ArgumentRule::Test;
  static const std::vector<CallRow> rows = {
      {"mmap", SYS_mmap, {{2, HasNone, {PROT_EXEC}, "no PROT_EXEC"}}, "heap"},
      {"pread64", SYS_pread64, {}, "the answer, from a memory file"},
      {"lseek", SYS_lseek, {}, "how long it is"},
      {"sendmsg", SYS_sendmsg, {}, "what came of it, for the sandbox process"},
      {"write", SYS_write, {}, "log lines"},
      {"close", SYS_close, {}, "descriptors that it has"},
      {"munmap", SYS_munmap, {}, "heap"},
      {"mremap", SYS_mremap, {}, "heap"},
      {"madvise", SYS_madvise, {}, "heap"},
      {"brk", SYS_brk, {}, "heap"},
      {"futex", SYS_futex, {}, "locks of the C library"},
      {"clock_gettime", SYS_clock_gettime, {}, "the time, where there is no vDSO"},
      {"restart_syscall", SYS_restart_syscall, {}, "the host goes on with a call after a stop"},
      {"exit_group", SYS_exit_group, {}, "ends itself"},
#ifdef __SANITIZE_ADDRESS__
      {"sigaltstack", SYS_sigaltstack, {}, "the sanitizer, before it ends; nothing in a build for users"},
      {"pipe2", SYS_pipe2, {}, "the sanitizer, which asks whether memory is readable; nothing in a build for users"},
#endif
  };
  return rows;
}

std::vector<sock_filter> make_answer_filter() {
  std::vector<sock_filter> code;
  compile_architecture_check(code, SECCOMP_RET_KILL_PROCESS);
  compile_rows(code, answer_calls(), SECCOMP_RET_ERRNO | EPERM);
  return code;
}

}  // namespace caisson::kernel
