// Task: a guest thread; ThreadGroup: a guest process. Each Task is served by one host thread of the kernel process, straight-line.
//
// Lock order (never take an upper one while holding a lower one):
//   Kernel::tasks           the task tree, process groups, sessions, all signal queues and masks, stops, exit states
//     File::position_lock
//       the lock of all mount tables, Dentry, inodes, pipes, ttys (each documented in its header)
//         FdTable, FsContext, SignalHandlers, AddressSpace, namespaces (their own)   leaves; none is held while another of them is taken
//           WaitQueue -> Waiter::notify
// Nothing sleeps (Task::block) with any of these held, and none is held over an access to guest memory, which can fault for long.
// What belongs to a task alone (registers, restart state, alternate stack) is touched by its own host thread only.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernel/abi/signal.h"
#include "kernel/errno.h"
#include "kernel/limits.h"
#include "kernel/memory.h"
#include "kernel/seccomp/state.h"
#include "kernel/task/credentials.h"
#include "kernel/task/namespaces.h"
#include "kernel/task/scheduling.h"
#include "kernel/task/signals.h"
#include "kernel/task/wait.h"
#include "kernel/user_ptr.h"
#include "kernel/vfs/fd_table.h"

namespace caisson::kernel {

class Cgroup;
class Container;
class Kernel;
class ProcessTimers;
class StubThread;
class Terminal;
class ThreadGroup;
class Tracing;

// A point of CLOCK_MONOTONIC, or never.
struct Deadline {
  int64_t nanoseconds = -1;  // -1: never
  static constexpr Deadline never() { return {}; }
  static Deadline after(int64_t nanoseconds);  // from now
  bool is_never() const { return nanoseconds < 0; }
  // What is left, at least 0; only where it is not never.
  int64_t left() const;
};
int64_t monotonic_now();  // nanoseconds
int64_t realtime_now();

// Root, working folder and umask (CLONE_FS shares it). Own lock, a leaf.
class FsContext {
 public:
  FsContext(Path root, Path cwd) : root_(std::move(root)), cwd_(std::move(cwd)) {}
  Path root() const;
  Path cwd() const;
  void set_root(Path path);
  void set_cwd(Path path);
  std::shared_ptr<FsContext> copy() const;
  std::atomic<mode_t> umask{022};

 private:
  mutable std::mutex lock_;
  Path root_, cwd_;
};

// A vfork parent waits here until its child has another memory, or none.
struct VforkWait {
  std::atomic<bool> done{false};
  WaitQueue queue;
  void finish() {
    done = true;
    queue.wake(~0U);
  }
};

// How a process ended, or what wait(2) has to tell of it.
struct WaitStatus {
  int code = 0;         // CLD_EXITED, CLD_KILLED, CLD_DUMPED, CLD_STOPPED, CLD_CONTINUED
  int status = 0;       // exit status or signal
  int encoded() const;  // as wait4(2) gives it
};

// A process. Guarded by Kernel::tasks but where said otherwise.
class ThreadGroup : public std::enable_shared_from_this<ThreadGroup> {
 public:
  pid_t pid = 0;        // in its own PID namespace
  TaskIdRef id;         // the same, with the numbers above it
  TaskIdRef pgid, sid;  // of its process group and session: the ids of their leaders, which may have gone
  std::shared_ptr<PidNamespace> pids;
  Container* container = nullptr;
  std::weak_ptr<ThreadGroup> parent;
  std::list<std::shared_ptr<ThreadGroup>> children;  // also zombies that nobody has waited for
  std::vector<Task*> tasks;                          // living ones
  Task* leader = nullptr;                            // may have exited before the others
  int exit_signal = 17;                              // what the parent gets; 0: nothing
  bool child_subreaper = false;

  PendingSignals pending;
  std::shared_ptr<SignalHandlers> handlers;
  bool exiting = false;       // exit_group or a fatal signal: all threads leave
  Task* executing = nullptr;  // one thread is in exec: the others leave
  WaitStatus exit;            // how it ends
  bool zombie = false;
  bool stopped = false;              // job control
  std::optional<WaitStatus> untold;  // a stop or continue that wait has not told yet
  bool has_executed = false;         // setpgid by the parent is refused from then on

  WaitQueue child_events;              // wait4 of this process's threads
  WaitQueue exited;                    // pidfd, the control connection
  WaitQueue signal_events;             // signalfd, sigtimedwait
  WaitQueue thread_left;               // exec waits for the other threads
  std::shared_ptr<Terminal> terminal;  // controlling terminal

  // Own lock: limits_lock, a leaf.
  mutable std::mutex limits_lock;
  std::array<rlimit, RLIM_NLIMITS> limits{};
  rlimit limit(int resource) const;

  struct Usage {
    int64_t user_ns = 0, system_ns = 0;
    long max_rss_kib = 0, minor_faults = 0, major_faults = 0;
  };
  Usage usage, children_usage;
  // Its control group (task/cgroup.h), also after its end; null: of no container.
  std::shared_ptr<Cgroup> cgroup;
  bool frozen = false;                    // by it: its tasks are to stand still
  uint64_t kernel_ns = 0;                 // processor time of the kernel's threads that served its tasks which have ended
  CpuUse used_elsewhere;                  // before it came to its group
  int64_t start_time = 0;                 // monotonic nanoseconds
  std::shared_ptr<ProcessTimers> timers;  // interval and POSIX timers (time/process_timers.h); null: none yet
  int nice = 0;
  int oom_score_adj = 0;
  bool dumpable = true;         // prctl(PR_SET_DUMPABLE)
  uid_t last_uid = 0;           // of the last task
  int parent_death_signal = 0;  // prctl(PR_SET_PDEATHSIG)

  // ptrace(2); trace/trace.h
  std::vector<Task*> tracees;
  std::vector<std::pair<pid_t, WaitStatus>> ended_tracees;  // that wait has not told yet
  std::weak_ptr<ThreadGroup> leader_tracer;                 // of the main thread, which has left
  int leaving_tracees = 0;                                  // processes whose leader_tracer this is, and that have not ended yet
};

class Task {
 public:
  ~Task();
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;

  // Guest memory. EFAULT.
  template <typename T>
  Result<T> read(UserPtr<T> from) {
    std::remove_const_t<T> value;
    TRY(read_bytes(from.address(), &value, sizeof value));
    return value;
  }
  template <typename T>
  Result<void> write(UserPtr<T> to, const T& value) {
    return write_bytes(to.address(), &value, sizeof value);
  }
  Result<void> read_bytes(uint64_t from, void* to, size_t length) { return read_guest(host_tid(), from, to, length); }
  Result<void> write_bytes(uint64_t to, const void* from, size_t length) { return write_guest(host_tid(), to, from, length); }
  // A text with a NUL within `most` bytes (the NUL counts); else ENAMETOOLONG.
  Result<std::string> read_string(UserPtr<const char> from, size_t most = 4096);
  // A row of pointers to texts that ends with a null pointer (argv). E2BIG beyond `most_bytes` in all.
  Result<std::vector<std::string>> read_strings(UserPtr<const uint64_t> from, size_t most_bytes);
  // readv's and writev's buffers: EINVAL for more than 1024 pieces or more than SSIZE_MAX bytes.
  Result<IoBuffer> read_io_vectors(uint64_t vectors, int count);
  IoBuffer buffer(uint64_t address, uint64_t length);
  pid_t host_tid() const;

  // Sleeps until somebody calls wake() after prepare_to_block(), or the deadline (ETIMEDOUT), or a signal that is to be handled now
  // (kRestartSys). Usual use: register a TaskWaiter; loop { prepare_to_block(); look at the condition; block(); }.
  void prepare_to_block();
  Result<void> block(Deadline deadline = Deadline::never());
  // From any thread, with any lock held.
  void wake();
  // The same, ended only by what ends the process or the thread (kRestartSys).
  Result<void> block_killable(Deadline deadline = Deadline::never());
  // A signal wants to be handled, or the group is leaving: block() would return at once. From the task's own thread.
  bool interrupted();
  bool dying() const { return leaving.load(); }

  // Identity; constant after creation but where exec gives the leader's tid to the thread that executes (under Kernel::tasks).
  pid_t tid = 0;  // in its own PID namespace
  TaskIdRef id;   // the same, with the numbers above it
  std::shared_ptr<ThreadGroup> group;
  Kernel& kernel;

  // Shareable objects. Replaced by the task's own thread only, under Kernel::tasks so that others (proc) may copy the pointers with it
  // held.
  std::shared_ptr<AddressSpace> memory;
  std::shared_ptr<FdTable> fds;
  std::shared_ptr<FsContext> fs;
  NamespacesRef spaces;
  CredentialsRef creds;
  TaskSeccomp seccomp;

  // Signals: under Kernel::tasks.
  PendingSignals pending;
  abi::SigSet blocked = 0;
  std::optional<abi::SigSet> saved_mask;  // sigsuspend, ppoll...: restored when a handler returns, or at once if none runs
  abi::SigSet waited_for = 0;             // sigtimedwait: these wake the task although they are blocked
  bool forced_fatal = false;              // the next fault signal ends the process
  std::shared_ptr<Tracing> tracing;       // ptrace(2); null: nobody traces it
  bool frozen = false;                    // stands still, since its control group is frozen
  std::atomic<bool> trace_calls{false};   // its tracer wants to see each system call
  std::atomic<bool> trace_step{false};    // its tracer wants one instruction
  std::atomic<bool> in_guest{false};      // the stub has the turn: only a host signal reaches it
  std::atomic<bool> attention{false};     // look at signals before the next return to the guest

  // The task's own thread only.
  // Its registers in the guest. A call from a thunk has brought those that it needs; the rest is fetched at the first use of registers().
  abi::Registers& registers();
  // Of the call that is being served: rax and the arguments, the others may be old.
  const abi::Registers& call_registers() const { return regs_; }
  void set_result(uint64_t rax) { regs_.rax = rax; }
  abi::SigStack alternate_stack;
  std::unique_ptr<StubThread> stub;
  bool in_syscall = false;
  uint64_t syscall_number = 0, syscall_first_argument = 0;
  std::optional<abi::Registers> native_call;   // of a call that the stub makes in the guest's place (syscalls/futex.cc)
  std::function<Result<long>(Task&)> restart;  // what restart_syscall does
  std::shared_ptr<VforkWait> vfork_wait;       // the parent waits for our exec or end
  uint64_t robust_list = 0;                    // task/robust.h
  std::string name = "caisson";                // comm; under Kernel::tasks
  Scheduling scheduling;                       // under Kernel::tasks
  std::atomic<uint32_t> personality{0};        // personality(2): written by its own thread only
  int exit_status = 0;                         // of exit(2)
  std::atomic<pid_t> server{0};                // the kernel's thread that serves it, and that one's processor time when it began to
  int64_t server_began = 0;                    // constant from then on
  std::atomic<bool> leaving{false};            // this thread is to end (exec of another, exit_group)
  std::atomic<const char*> state{"R"};         // for /proc
  // For others, while it is stopped for its tracer (Kernel::tasks).
  abi::Registers& stopped_registers() { return regs_; }
  const abi::Registers& stopped_registers() const { return regs_; }
  // What it is doing, for `caisson debug`: stored (relaxed) by its own thread, read by any.
  struct Doing {
    std::atomic<int> call{-1};       // number of the system call that the kernel serves; -1: none
    std::atomic<int64_t> asleep{0};  // since when (monotonic) it sleeps in it; 0: it does not. Then the rest counts:
    std::atomic<uint64_t> ip{0}, sp{0}, bp{0};
    std::array<std::atomic<uint64_t>, 6> arguments{};
  } doing;

  // Lets a new task's guest run, if nothing speaks against it, before the host thread that is to serve it has woken. By another thread,
  // which gives the task to that one then.
  void begin();
  // The host thread's body: serves the stub until the task ends.
  void run();

  explicit Task(Kernel& k);

 private:
  friend class Kernel;
  void finish();
  void handle_event(const struct StubEvent& event);
  bool end_native_call(const struct StubEvent& event);
  bool enter_guest();
  bool enters_at_once();
  void serve_event();
  void step_done(const struct StubEvent& event);
  Result<void> sleep(Deadline deadline, bool killable);
  void note_sleep();
  abi::Registers regs_{};
  bool begun_ = false;
  uint32_t awake_ = 0;  // futex word
};

// The maps of the task's PID namespace and of those above it. Under Kernel::tasks.
void list_task_locked(Task& task);
void unlist_task_locked(Task& task);
void list_group_locked(const std::shared_ptr<ThreadGroup>& group);
void unlist_group_locked(ThreadGroup& group);

}  // namespace caisson::kernel
