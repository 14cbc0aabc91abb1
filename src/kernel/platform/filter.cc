// Whatever passes this filter is done by the host for hostile code, which can jump into the blob's code too. Every row must be safe for any
// arguments that its rules let through; the window checks protect the guest from its own mistakes (the window must stay mapped), not the
// host from the guest.
#include "kernel/platform/filter.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kernel/stub/layout.h"

namespace caisson::kernel {
namespace {

constexpr uint32_t kIpLow = offsetof(seccomp_data, instruction_pointer), kIpHigh = kIpLow + 4;
constexpr uint32_t kOptionalClone = CLONE_SETTLS | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID;
constexpr uint32_t kForkFlags = CLONE_PARENT | SIGCHLD;
constexpr uint32_t kVforkFlags = CLONE_PARENT | CLONE_VM | CLONE_FILES | SIGCHLD;
constexpr uint32_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
constexpr uint32_t kReceiveFlags = 0x40000000;  // MSG_CMSG_CLOEXEC, as the blob says it

using enum ArgumentRule::Test;

ArgumentRule outside(int address, int length) {
  return {address, OutsideWindow, {static_cast<uint32_t>(length)}, "outside of the stub's window"};
}

const ArgumentRule kFutexCommands = {
    1,
    OneOf,
    {FUTEX_WAIT, FUTEX_WAKE, FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP, FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET},
    "wait, wake, requeue and wake_op; no priority inheritance",
    FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME};
// The stub's second filter, and no other.
const std::vector<ArgumentRule> kTrapFilter = {{0, OneOf, {SECCOMP_SET_MODE_FILTER}, "the filter that traps everything, for all threads"},
                                               {1, OneOf, {SECCOMP_FILTER_FLAG_TSYNC}, ""},
                                               {2, UpperHalf, {STUB_TRAP_FILTER >> 32}, ""},
                                               {2, OneOf, {static_cast<uint32_t>(STUB_TRAP_FILTER)}, ""}};
const ArgumentRule kFsBase = {0, OneOf, {0x1002, 0x1003}, "FS base"};
const ArgumentRule kBases = {0, OneOf, {0x1001, 0x1002, 0x1003, 0x1004}, "FS and GS base"};

}  // namespace

const std::vector<NativeCall>& native_calls() {
  static const std::vector<NativeCall> rows = {
      {"futex", SYS_futex, {kFutexCommands}, "its own memory, or memory that it shares already"},
      {"mmap",
       SYS_mmap,
       {{3, HasAll, {MAP_ANONYMOUS}, "MAP_ANONYMOUS"}, {3, HasNone, {MAP_HUGETLB}, "no MAP_HUGETLB"}, outside(0, 1)},
       "only its own memory; charged to the container's cgroup"},
      {"munmap", SYS_munmap, {outside(0, 1)}, "only its own memory"},
      {"mprotect",
       SYS_mprotect,
       {{2, HasNone, {PROT_EXEC}, "no PROT_EXEC"}, outside(0, 1)},
       "only its own memory; what a descriptor's mode forbids stays forbidden"},
      {"madvise", SYS_madvise, {outside(0, 1)}, "only its own memory; what needs a capability fails"},
      {"mremap",
       SYS_mremap,
       {{3, HasNone, {~static_cast<uint32_t>(MREMAP_MAYMOVE)}, "MREMAP_MAYMOVE at most"}, outside(0, 1), outside(0, 2)},
       "only its own memory"},
      {"arch_prctl", SYS_arch_prctl, {kFsBase}, "its own registers"},
      {"clock_gettime", SYS_clock_gettime, {{0, AtMost, {11}, "fixed clocks"}}, "the vDSO answers these too"},
      {"msync", SYS_msync, {}, "writes back what it could write anyway"},
      {"mlock", SYS_mlock, {}, "bounded by RLIMIT_MEMLOCK"},
      {"munlock", SYS_munlock, {}, "only its own memory"},
      {"sched_yield", SYS_sched_yield, {}, "no arguments, no state"},
      {"rseq", SYS_rseq, {}, "its own memory and registers"},
      {"membarrier", SYS_membarrier, {}, "orders memory; registered for its own process"},
      {"getcpu", SYS_getcpu, {}, "which CPU it runs on; RDPID says it too"},
      {"gettimeofday", SYS_gettimeofday, {}, "the vDSO answers it too"},
      {"time", SYS_time, {}, "the vDSO answers it too"},
  };
  return rows;
}

const std::vector<NativeCall>& blob_calls() {
  static const std::vector<NativeCall> rows = {
      {"futex", SYS_futex, {kFutexCommands}, "the handoff; its own memory"},
      {"recvmsg",
       SYS_recvmsg,
       {{2, OneOf, {kReceiveFlags}, "MSG_CMSG_CLOEXEC alone"}},
       "its only socket: descriptors that the kernel process sends to this guest process"},
      {"write", SYS_write, {{2, AtMost, {1}, "one byte"}}, "that socket: says that a new process is there"},
      {"clone",
       SYS_clone,
       {{0, OneOf, {kForkFlags, kVforkFlags, kThreadFlags}, "flags of a fork, a vfork or a thread, exactly", kOptionalClone}},
       "no namespaces; bounded by the container's cgroup"},
      {"clone", SYS_clone, {}, "any other flags", CallEffect::Denied},
      {"arch_prctl", SYS_arch_prctl, {kBases}, "its own registers"},
      {"seccomp", SYS_seccomp, kTrapFilter, "for a guest with filters of its own: allows less than before"},
      {"rt_sigreturn", SYS_rt_sigreturn, {}, "its own registers"},
      {"close", SYS_close, {}, "its own descriptors"},
      {"mmap", SYS_mmap, {}, "descriptors passed for this purpose, with no more rights than the guest's own file has"},
      {"munmap", SYS_munmap, {}, "its own memory"},
      {"mprotect", SYS_mprotect, {}, "its own memory"},
      {"mremap", SYS_mremap, {}, "its own memory"},
      {"madvise", SYS_madvise, {}, "its own memory"},
      {"futex_waitv", SYS_futex_waitv, {}, "as futex, in the guest's place"},
      {"msync", SYS_msync, {}, "its own memory; for such a guest"},
      {"mlock", SYS_mlock, {}, "its own memory; for such a guest"},
      {"munlock", SYS_munlock, {}, "its own memory; for such a guest"},
      {"rseq", SYS_rseq, {}, "its own memory and registers; for such a guest"},
      {"membarrier", SYS_membarrier, {}, "orders memory; for such a guest"},
      {"sigaltstack", SYS_sigaltstack, {}, "its own registers"},
      {"gettid", SYS_gettid, {}, "a number"},
      {"set_tid_address", SYS_set_tid_address, {}, "its own memory, when its thread ends"},
      {"exit", SYS_exit, {}, "ends its own thread"},
      {"exit_group", SYS_exit_group, {}, "ends its own process"},
  };
  return rows;
}

namespace {

// Where a call comes from: code for the blob's goes on right behind, code for all other begins where end_of_blob() is called.
class BlobBranch {
 public:
  explicit BlobBranch(std::vector<sock_filter>& code) : code_(code) {
    code_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kIpHigh));
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, STUB_WINDOW >> 32, 1, 0));
    not_window_ = code_.size();
    code_.push_back(BPF_STMT(BPF_JMP | BPF_JA, 0));
    code_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kIpLow));
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, STUB_BLOB_SIZE, 0, 1));
    not_blob_ = code_.size();
    code_.push_back(BPF_STMT(BPF_JMP | BPF_JA, 0));
  }
  void end_of_blob() {
    for (size_t from : {not_window_, not_blob_}) code_[from].k = static_cast<uint32_t>(code_.size() - from - 1);
  }

 private:
  std::vector<sock_filter>& code_;
  size_t not_window_ = 0, not_blob_ = 0;
};

}  // namespace

std::vector<sock_filter> make_stub_filter() {
  std::vector<sock_filter> code;
  // 32-bit calls: there is no such interface here, but a guest's own filter may want to see the attempt.
  compile_architecture_check(code, SECCOMP_RET_TRAP);
  BlobBranch branch(code);
  compile_rows(code, blob_calls(), SECCOMP_RET_TRAP);
  branch.end_of_blob();
  compile_rows(code, native_calls(), SECCOMP_RET_TRAP);
  return code;
}

std::vector<sock_filter> make_trap_filter() {
  std::vector<sock_filter> code;
  BlobBranch branch(code);
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  branch.end_of_blob();
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
  return code;
}

}  // namespace caisson::kernel
