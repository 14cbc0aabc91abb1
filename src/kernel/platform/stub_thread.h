// StubThread: the kernel's end of one guest thread's stub: the handoff, the frame with its registers, and work done on the kernel's behalf
// inside the guest's memory. All of it is used by the task's own host thread, but interrupt().
//
// A slot's memory is shared with a hostile guest: every word is read once and checked; nothing read from it is used as an address or a
// length of the kernel's.
#pragma once

#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <atomic>
#include <memory>
#include <vector>

#include "kernel/abi/signal.h"
#include "kernel/errno.h"
#include "kernel/memory.h"
#include "kernel/platform/pace.h"
#include "kernel/platform/passed_memory.h"
#include "kernel/stub/layout.h"
#include "kernel/task/credentials.h"

namespace caisson::kernel {

class HostWatcher;

// The host process that runs a guest process's threads. Ends (SIGKILL) with the last reference.
class StubProcess {
 public:
  // Takes over a child of the kernel process.
  static Result<std::shared_ptr<StubProcess>> adopt(pid_t host_pid);
  ~StubProcess();
  StubProcess(const StubProcess&) = delete;
  StubProcess& operator=(const StubProcess&) = delete;
  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }
  void kill();
  // Kills, waits for the end and reaps; usage of the host process. Once.
  rusage reap();
  // Its second host filter is in place (platform/filter.h, make_trap_filter), or was in the process that it is a copy of.
  bool traps_everything() const { return traps_everything_.load(std::memory_order_acquire); }
  void inherit_traps() { traps_everything_.store(true, std::memory_order_release); }
  void mark_dead() { dead_.store(true, std::memory_order_release); }
  // The watcher's registration, undone with this object.
  void watched_as(HostWatcher& watcher, uint64_t id) {
    watcher_ = &watcher;
    watch_ = id;
  }
  bool dead() const { return dead_.load(std::memory_order_acquire); }

 private:
  friend class StubThread;
  StubProcess() = default;
  pid_t pid_ = 0;
  UniqueFd pidfd_;
  std::atomic<bool> dead_{false};
  std::atomic<bool> reaped_{false};
  std::atomic<bool> traps_everything_{false};
  HostWatcher* watcher_ = nullptr;
  uint64_t watch_ = 0;
};

// Why the stub gave the turn to the kernel.
struct StubEvent {
  enum Kind { Syscall, Interrupt, Fault, Dead } kind = Dead;
  siginfo_t info{};      // Fault
  bool foreign = false;  // Syscall: by another architecture's numbers (int 0x80)
};

// One call for the stub to make in the guest's memory.
struct StubCall {
  uint64_t number = 0;
  uint64_t args[6] = {};
  int fd_argument = -1;  // which argument the descriptor replaces
  int fd = -1;           // the kernel's descriptor to be passed; borrowed
  bool stop_on_error = true;
};

class StubThread {
 public:
  // Waits for a new stub process that is to report on this slot, and takes it over.
  static Result<std::unique_ptr<StubThread>> arrive(std::shared_ptr<AddressSpace> memory, uint32_t slot);
  ~StubThread();

  // Waits until the stub has given its turn away, and copies registers out of its frame. Of a call from a thunk rax and the arguments only:
  // the rest is for complete().
  StubEvent wait(abi::Registers& regs);
  // Fetches the registers that wait() has left out, if it has.
  void complete(abi::Registers& regs) {
    if (rest_missing_) fetch_rest(regs);
  }
  // Writes registers into the frame and lets the guest run. Where complete() has not been called, rax is all that may have changed.
  void resume(const abi::Registers& regs);
  // The first resume(), which another thread may make in the place of the task's own.
  void begin(const abi::Registers& regs);
  // Makes the thread stop soon, wherever it is in the guest. Any thread, while the task is known to live (Kernel::tasks).
  void interrupt();

  // Runs the calls in the stub, one after the other; results[i] is call i's value or -errno. EIO, ESRCH: the stub misbehaves or has died.
  Result<std::vector<int64_t>> run(const std::vector<StubCall>& calls);
  // One call; its value, or its errno.
  Result<uint64_t> run_one(const StubCall& call);

  // A copy of this process with `memory` new (fork), this thread's registers and FP state in its slot.
  Result<std::unique_ptr<StubThread>> fork(uint64_t extra_flags, uint64_t child_tid);
  // A thread of the same process, or (process: true) another process with the same memory (vfork).
  Result<std::unique_ptr<StubThread>> clone_shared(bool process, uint64_t extra_flags, uint64_t child_tid, uint64_t tls);
  // Ends the host thread; clear_child_tid is the host's work. Does not wait.
  void exit_thread();

  // From now on every call of every thread of this process traps, but the blob's own. ENOMEM.
  Result<void> trap_everything();
  // Has the stub make the call that is in the registers, where the guest cannot make it itself: the call itself may wait and be
  // interrupted like any of the guest's. Sets where the thread goes on; the result comes with a later event, told by native_result().
  static void begin_native_call(abi::Registers& regs);
  // regs: of an event after begin_native_call(), which had left it with `before`. The guest's registers again: with the call's result, or
  // with -kRestartSys where it was interrupted before it began or while it waited.
  static abi::Registers native_result(const abi::Registers& regs, const abi::Registers& before);

  // The FP state of the frame as the host laid it out, and back. Size: 0 where the frame has none or the guest has damaged it.
  std::vector<uint8_t> fp_state();
  Result<void> set_fp_state(const std::vector<uint8_t>& state);
  void reset_fp_state();
  size_t fp_state_size();
  // A call that has come from a thunk has left no frame. Then need_frame() has the stub trap to make one; false: it has died or misbehaved.
  bool lacks_frame() const { return fast_; }
  bool need_frame();

  pid_t host_tid() const { return host_tid_; }
  const std::shared_ptr<StubProcess>& process() const { return process_; }
  const std::shared_ptr<AddressSpace>& memory() const { return memory_; }
  // The process is dead: wait() returns. Any thread.
  void wake_dead();
  // The thread is about to end: a stub that does not give its turn back within a second has no mind to, and its process is killed. After
  // interrupt(), which is what well-behaved ones need; any thread, as there.
  void end_soon();
  // What the stub answers without the kernel: the numbers of its process and credentials. Own thread; answer_nothing() and answer_parent()
  // any, while the task is known to live (Kernel::tasks).
  struct Numbers {
    pid_t pid = 0, tid = 0, parent = 0;
  };
  bool knows_numbers() const { return knows_numbers_; }
  void answer_numbers(const Numbers& numbers);
  void answer_credentials(const CredentialsRef& creds);
  void answer_parent(pid_t parent);
  void answer(bool on);
  void answer_nothing() { answer(false); }
  // The thread runs where the guest and the host let it, no more where we find it handy: before its CPUs are asked for or set. Any thread.
  void settle() { pace_.settle(); }

 private:
  StubThread(std::shared_ptr<AddressSpace> memory, uint32_t slot, std::shared_ptr<StubProcess> process);
  StubSlot* slot() const { return static_cast<StubSlot*>(memory_->slot(slot_)); }
  void hand_over(uint32_t request, uint64_t rax = 0);
  bool await_turn();  // false: the stub is dead
  void write_frame(const abi::Registers& regs);
  void copy_frame_to(StubThread& child);
  bool read_frame();  // where the frame is; false: nonsense
  void kill_for_nonsense();
  void read_call(abi::Registers& regs);
  void read_fast();
  void fetch_rest(abi::Registers& regs);
  StubEvent read_event(uint32_t kind, abi::Registers& regs);
  void count_trap(const abi::Registers& regs);
  char* frame() const { return reinterpret_cast<char*>(slot()) + frame_offset_; }

  std::shared_ptr<AddressSpace> memory_;
  uint32_t slot_;
  std::shared_ptr<StubProcess> process_;
  pid_t host_tid_ = 0;
  std::atomic<bool> ending_{false};
  Pace pace_;
  bool knows_numbers_ = false;
  CredentialsRef answered_creds_;
  PassedMemory passed_;
  bool fast_ = false;          // the stub waits in a thunk's call
  bool rest_missing_ = false;  // and of its registers most have not been asked for; else, or once there is a frame, they are:
  abi::Registers fast_regs_{};
  uint32_t spin_ = 0;  // what the slot says
  // The last frame was of an instruction in a thunk, `in_thunk_`, which the guest was told as `told_`.
  uint64_t in_thunk_ = 0, told_ = 0;
  uint64_t frame_offset_ = 0, info_offset_ = 0, fp_offset_ = 0, fp_size_ = 0;
};

// A small single-threaded process that stubs are copies of: they have its cgroup, user namespace and limits.
struct Zygote {
  UniqueFd socket;    // it is asked for stubs here
  UniqueFd process;   // pidfd
  uint64_t vdso = 0;  // where the vDSO is in its stubs; 0: nowhere
};
// Forks it, which only a process without threads may do. The kernel process must be its parent, and so that of its stubs: it is the one
// that forks (orphan: false), or the first process of the PID namespace, which gets what its parent leaves behind (orphan: true).
Result<Zygote> make_zygote(bool orphan);

// Makes stubs. The zygote is asked for one ahead of time, so that exec finds one that is ready.
class StubPool {
 public:
  // Before the kernel's first thread.
  static Result<std::unique_ptr<StubPool>> create();
  // With a zygote that has been made elsewhere, whose stubs are this process's children.
  static Result<std::unique_ptr<StubPool>> adopt(Zygote zygote);
  ~StubPool();
  // Where the vDSO is in every stub; 0: nowhere.
  uint64_t vdso() const { return zygote_.vdso; }
  // A fresh stub with nothing mapped but the blob and the vDSO, stopped in its first trap.
  Result<std::unique_ptr<StubThread>> take();
  // Ends the zygote and the stub that it has made ahead, and reaps them; take() fails with ESRCH from now on. In a container that is paused
  // that takes until it goes on. Any thread.
  void end();

 private:
  StubPool() = default;
  Result<void> ask_locked();
  Result<std::shared_ptr<AddressSpace>> asked_locked();
  std::mutex lock_;
  Zygote zygote_;
  bool ended_ = false;
  std::shared_ptr<AddressSpace> asked_;  // the zygote has been asked for a stub with this memory; null: it has not
};

}  // namespace caisson::kernel
