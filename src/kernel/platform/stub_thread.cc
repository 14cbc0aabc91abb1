#include "kernel/platform/stub_thread.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>

#include "kernel/klog.h"
#include "kernel/patch/call_sites.h"
#include "kernel/platform/address_limit.h"
#include "kernel/platform/host_calls.h"
#include "kernel/platform/watcher.h"
#include "kernel/task/answers.h"

extern "C" const char caisson_stub_blob[];

namespace caisson::kernel {
namespace {

constexpr uint32_t kFpMagic = 0x46505853;  // FP_XSTATE_MAGIC1
constexpr uint32_t kFpSoftware = 464;      // offset of struct _fpx_sw_bytes in the FP state
constexpr uint16_t kUserCode = 0x33, kUserStack = 0x2b;

template <typename T>
T load(const T& word) {
  return __atomic_load_n(&word, __ATOMIC_SEQ_CST);
}
void store(uint32_t& word, uint32_t value) { __atomic_store_n(&word, value, __ATOMIC_SEQ_CST); }

}  // namespace

Result<std::shared_ptr<StubProcess>> StubProcess::adopt(pid_t host_pid) {
  std::shared_ptr<StubProcess> process(new StubProcess);
  process->pid_ = host_pid;
  process->pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, host_pid, 0)));
  if (!process->pidfd_) return host_errno();
  return process;
}

StubProcess::~StubProcess() {
  if (watcher_ != nullptr) watcher_->remove(watch_, pidfd_.get());
  if (pidfd_) reap();
}

void StubProcess::kill() {
  dead_.store(true, std::memory_order_release);
  syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
}

rusage StubProcess::reap() {
  rusage usage{};
  if (reaped_.exchange(true)) return usage;
  kill();
  siginfo_t info{};
  while (syscall(SYS_waitid, P_PIDFD, pidfd_.get(), &info, WEXITED | __WALL, &usage) != 0 && errno == EINTR) continue;
  return usage;
}

StubThread::StubThread(std::shared_ptr<AddressSpace> memory, uint32_t slot, std::shared_ptr<StubProcess> process)
    : memory_(std::move(memory)), slot_(slot), process_(std::move(process)) {}

StubThread::~StubThread() {
  if (process_) memory_->free_slot(slot_, process_->pid(), host_tid_);
}

Result<std::unique_ptr<StubThread>> StubThread::arrive(std::shared_ptr<AddressSpace> memory, uint32_t index) {
  std::unique_ptr<StubThread> stub(new StubThread(memory, index, nullptr));
  StubSlot* slot = stub->slot();
  // The process may die before it reports; there is nobody to ask about that but its socket. (A process that shares it, after vfork, keeps
  // it open.)
  const timespec patience{10, 0};
  store(slot->kernel_sleeping, 1);
  const time_t begin = time(nullptr);
  while (load(slot->turn) != STUB_TURN_KERNEL) {
    if (time(nullptr) - begin > 30) return Errno(EAGAIN);
    futex_wait(&slot->turn, STUB_TURN_GUEST, &patience);
  }
  store(slot->kernel_sleeping, 0);
  const pid_t pid = TRY(receive_writer(memory->socket()));
  stub->process_ = TRY(StubProcess::adopt(pid));
  stub->host_tid_ = pid;
  if (load(slot->event) == STUB_EVENT_SIGNAL && !stub->read_frame()) return Errno(EIO);
  return stub;
}

static bool has_ended(const StubProcess& process) {
  pollfd entry{process.pidfd(), POLLIN, 0};
  return poll(&entry, 1, 0) > 0;
}

bool StubThread::await_turn() {
  StubSlot* slot = this->slot();
  if (const uint32_t ticks = pace_.spin_ticks(); ticks != 0) {
    int looks = 0;
    for (; looks < STUB_FREE_LOOKS && load(slot->turn) == STUB_TURN_GUEST; ++looks) __builtin_ia32_pause();
    if (looks == STUB_FREE_LOOKS) {
      const uint64_t begin = ticks_now();
      while (load(slot->turn) == STUB_TURN_GUEST && ticks_now() - begin < ticks) __builtin_ia32_pause();
      if (load(slot->turn) == STUB_TURN_GUEST) pace_.spun_in_vain();
    }
  }
  const auto elsewhere = [](uint32_t turn) { return turn == STUB_TURN_GUEST || turn == STUB_TURN_ENDING; };
  if (elsewhere(load(slot->turn))) {
    store(slot->kernel_sleeping, 1);
    uint32_t turn;
    for (time_t until = 0; elsewhere(turn = load(slot->turn)) && !process_->dead();) {
      const bool ending = ending_.load(std::memory_order_seq_cst);
      if (ending && until == 0) until = time(nullptr) + 2;
      if (ending && time(nullptr) >= until) process_->kill();
      // While its program is loaded nobody else sees it die, by the host's OOM killer for one.
      const bool watched = process_->watcher_ != nullptr;
      const timespec second{1, 0};
      futex_wait(&slot->turn, turn, ending || !watched ? &second : nullptr);
      if (!watched && has_ended(*process_)) process_->mark_dead();
    }
    store(slot->kernel_sleeping, 0);
  }
  return !process_->dead();
}

void StubThread::hand_over(uint32_t request, uint64_t rax) {
  StubSlot* slot = this->slot();
  const StubPiece back = passed_.give_back();
  if (back.size != 0) slot->passed.back = back;
  if (const uint32_t spin = pace_.spin_ticks(); spin != spin_) slot->spin = spin_ = spin;
  // All that is written to the turn's cache line, and nothing between: the stub, which may be looking at it, would have the line back.
  slot->rax = rax;
  slot->gives_back = back.size != 0;
  slot->request = static_cast<uint8_t>(request);
  store(slot->turn, STUB_TURN_GUEST);
  if (load(slot->sleeping)) futex_wake(&slot->turn);
}

void StubThread::wake_dead() {
  store(slot()->turn, STUB_TURN_DEAD);
  futex_wake(&slot()->turn);
}

void StubThread::end_soon() {
  ending_.store(true, std::memory_order_seq_cst);
  // The word changes, so that our thread cannot fall asleep on it with an old view of `ending_`.
  uint32_t guest = STUB_TURN_GUEST;
  StubSlot* slot = this->slot();
  __atomic_compare_exchange_n(&slot->turn, &guest, STUB_TURN_ENDING, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  futex_wake(&slot->turn);
}

bool StubThread::read_frame() {
  StubSlot* slot = this->slot();
  const uint64_t frame = __atomic_load_n(&slot->frame_offset, __ATOMIC_RELAXED),
                 info = __atomic_load_n(&slot->info_offset, __ATOMIC_RELAXED);
  const auto inside = [](uint64_t offset, uint64_t size) {
    return offset >= STUB_STACK_OFFSET + 1024 && offset % 8 == 0 && offset < STUB_SLOT_SIZE && size <= STUB_SLOT_SIZE - offset;
  };
  if (!inside(frame, sizeof(abi::UContext)) || !inside(info, sizeof(siginfo_t))) return false;
  frame_offset_ = frame;
  info_offset_ = info;
  uint64_t fp;
  memcpy(&fp, this->frame() + offsetof(abi::UContext, fpstate), sizeof fp);
  fp_offset_ = fp - (STUB_SLOTS + slot_ * STUB_SLOT_SIZE);
  fp_size_ = 0;
  if (!inside(fp_offset_, 512)) return true;
  uint32_t words[2];
  memcpy(words, reinterpret_cast<char*>(slot) + fp_offset_ + kFpSoftware, sizeof words);
  fp_size_ = words[0] == kFpMagic ? words[1] : 512;
  if (fp_size_ < 512 || !inside(fp_offset_, fp_size_)) fp_size_ = 0;
  return true;
}

void StubThread::kill_for_nonsense() {
  klog(LogLevel::Warning, "stub %d: nonsense in its slot; its process is killed", host_tid_);
  process_->kill();
}

// A thunk's call: its number and arguments, which have come with the turn.
void StubThread::read_call(abi::Registers& regs) {
  const StubSlot* slot = this->slot();
  const auto word = [](const uint64_t& place) { return __atomic_load_n(&place, __ATOMIC_RELAXED); };
  regs.rax = word(slot->rax);
  regs.rdi = word(slot->arguments[0]);
  regs.rsi = word(slot->arguments[1]);
  regs.rdx = word(slot->arguments[2]);
  regs.r10 = word(slot->arguments[3]);
  regs.r8 = word(slot->arguments[4]);
  regs.r9 = word(slot->arguments[5]);
  rest_missing_ = true;
}

// Where a thunk has put the guest's registers: what a signal frame would say.
void StubThread::read_fast() {
  fast_regs_ = {};
  memcpy(&fast_regs_, reinterpret_cast<char*>(slot()) + STUB_FAST_OFFSET, offsetof(StubFast, call));
  fast_regs_.cs = kUserCode;
  fast_regs_.ss = kUserStack;
}

void StubThread::fetch_rest(abi::Registers& regs) {
  rest_missing_ = false;
  if (fast_) read_fast();
  fast_regs_.rax = regs.rax;
  fast_regs_.rdi = regs.rdi;
  fast_regs_.rsi = regs.rsi;
  fast_regs_.rdx = regs.rdx;
  fast_regs_.r10 = regs.r10;
  fast_regs_.r8 = regs.r8;
  fast_regs_.r9 = regs.r9;
  regs = fast_regs_;
}

StubEvent StubThread::read_event(uint32_t kind, abi::Registers& regs) {
  StubEvent event;
  if (kind == STUB_EVENT_FAST || kind == STUB_EVENT_FAST_INTERRUPT) {
    fast_ = true;
    if (kind == STUB_EVENT_FAST) {
      read_call(regs);
      if (load(slot()->passes) != 0) passed_.take(slot(), host_tid_);
      event.kind = StubEvent::Syscall;
    } else {
      read_fast();
      regs = fast_regs_;
      event.kind = StubEvent::Interrupt;
    }
    return event;
  }
  const uint32_t signal = load(slot()->signal);
  if (kind != STUB_EVENT_SIGNAL || !read_frame()) {
    kill_for_nonsense();
    return event;
  }
  memcpy(&regs, frame() + offsetof(abi::UContext, regs), sizeof regs);
  if (signal == STUB_INTERRUPT_SIGNAL) {
    event.kind = StubEvent::Interrupt;
  } else if (signal == SIGSYS) {
    event.kind = StubEvent::Syscall;
    siginfo_t info;
    memcpy(&info, reinterpret_cast<char*>(slot()) + info_offset_, sizeof info);
    event.foreign = info.si_arch != AUDIT_ARCH_X86_64;
  } else {
    event.kind = StubEvent::Fault;
    memcpy(&event.info, reinterpret_cast<char*>(slot()) + info_offset_, sizeof event.info);
    event.info.si_signo = static_cast<int>(signal);
  }
  return event;
}

void StubThread::count_trap(const abi::Registers& regs) {
  switch (regs.rax) {
    // These need a frame.
    case SYS_rt_sigreturn:
    case SYS_clone:
    case SYS_clone3:
    case SYS_fork:
    case SYS_vfork:
    case SYS_execve:
    case SYS_execveat:
    case SYS_exit:
    case SYS_exit_group:
      return;
  }
  const auto answered = std::find(std::begin(kAnsweredCalls), std::end(kAnsweredCalls), static_cast<int>(regs.rax));
  const bool one_of_many = answered != std::end(kAnsweredCalls) && load(slot()->answer) != 0;
  if (memory_->call_sites().traps_often(regs.rip, one_of_many ? STUB_ANSWERS_UNSEEN : 1))
    memory_->call_sites().consider(*this, regs.rip, regs.rax);
}

StubEvent StubThread::wait(abi::Registers& regs) {
  CallSites& sites = memory_->call_sites();
  for (;;) {
    if (!await_turn()) return {};
    pace_.after_guest();
    rest_missing_ = false;
    StubEvent event = read_event(load(slot()->event), regs);
    in_thunk_ = 0;
    if (fast_ || event.kind == StubEvent::Dead) return event;
    const bool trap = event.kind == StubEvent::Fault && event.info.si_signo == SIGTRAP;
    // Nothing can be executed there: natively it may be one of ours that leads nowhere any more.
    const bool nowhere = event.kind == StubEvent::Fault && event.info.si_signo == SIGSEGV &&
                         reinterpret_cast<uint64_t>(event.info.si_addr) == regs.rip && sites.any();
    if (nowhere && sites.settle_moved(*this, regs.rip)) {
      resume(regs);
      continue;
    }
    const uint64_t seen = sites.guest_rip(regs.rip);
    if (seen != regs.rip) {
      // A guest that steps through its own code does not see ours.
      if (trap && event.info.si_code == TRAP_TRACE) {
        resume(regs);
        continue;
      }
      in_thunk_ = regs.rip;
      told_ = regs.rip = seen;
      return event;
    }
    if (trap && event.info.si_code != TRAP_TRACE && sites.settle_breakpoint(*this, regs.rip)) {
      resume(regs);
      continue;
    }
    if (event.kind == StubEvent::Syscall && !event.foreign) count_trap(regs);
    return event;
  }
}

bool StubThread::need_frame() {
  if (!fast_) return true;
  if (rest_missing_) read_fast();
  fast_ = false;
  hand_over(STUB_FRAME);
  if (!await_turn()) return false;
  if (load(slot()->event) == STUB_EVENT_SIGNAL && load(slot()->signal) == SIGSYS && read_frame()) return true;
  kill_for_nonsense();
  return false;
}

void StubThread::resume(const abi::Registers& regs) {
  if (fast_) {
    fast_regs_.rax = regs.rax;
    if (rest_missing_ || memcmp(&fast_regs_, &regs, sizeof regs) == 0) {
      fast_ = false;
      pace_.before_guest(host_tid_);
      hand_over(STUB_RETURN, regs.rax);
      return;
    }
    if (!need_frame()) return;
  }
  write_frame(regs);
  pace_.before_guest(host_tid_);
  hand_over(STUB_RESUME);
}

void StubThread::begin(const abi::Registers& regs) {
  write_frame(regs);
  hand_over(STUB_RESUME);
}

void StubThread::write_frame(const abi::Registers& regs) {
  abi::Registers copy = regs;
  copy.cs = kUserCode;
  copy.ss = kUserStack;
  if (in_thunk_ != 0 && copy.rip == told_) copy.rip = in_thunk_;
  memcpy(frame() + offsetof(abi::UContext, regs), &copy, sizeof copy);
  const abi::SigSet none = 0;
  memcpy(frame() + offsetof(abi::UContext, mask), &none, sizeof none);
  slot()->frame_offset = frame_offset_;
}

void StubThread::interrupt() { syscall(SYS_tgkill, process_->pid(), host_tid_, STUB_INTERRUPT_SIGNAL); }

Result<std::vector<int64_t>> StubThread::run(const std::vector<StubCall>& calls) {
  if (calls.size() > STUB_MAX_OPS) return Errno(E2BIG);
  // A thunk's call finds its slot by the GS base.
  const auto sets_base = [](const StubCall& call) { return call.number == SYS_arch_prctl; };
  if (std::any_of(calls.begin(), calls.end(), sets_base) && !need_frame()) return Errno(ESRCH);
  StubSlot* slot = this->slot();
  std::vector<int> fds;
  for (size_t i = 0; i < calls.size(); ++i) {
    const StubCall& call = calls[i];
    StubOp& op = slot->ops[i];
    op.number = call.number;
    memcpy(op.args, call.args, sizeof op.args);
    op.stop_on_error = call.stop_on_error;
    op.fd_argument = 0;
    if (call.fd_argument < 0 || call.fd < 0) continue;
    size_t index = 0;
    while (index < fds.size() && fds[index] != call.fd) ++index;
    if (index == fds.size()) fds.push_back(call.fd);
    op.fd_argument = call.fd_argument + 1;
    op.fd_index = static_cast<uint32_t>(index);
  }
  if (fds.size() > STUB_MAX_FDS) return Errno(E2BIG);
  std::unique_lock guard(memory_->descriptors_lock, std::defer_lock);
  slot->count = static_cast<uint32_t>(calls.size());
  slot->receive = fds.empty() ? 0 : 1;
  if (!fds.empty()) {
    guard.lock();
    TRY(send_descriptors(memory_->socket(), fds));
  }
  hand_over(STUB_BATCH);
  if (!await_turn()) return Errno(ESRCH);
  if (__atomic_load_n(&slot->received, __ATOMIC_RELAXED) < 0) return Errno(EMFILE);
  const uint32_t executed = load(slot->executed);
  std::vector<int64_t> results(calls.size(), -ECANCELED);
  for (size_t i = 0; i < calls.size() && i < executed; ++i) results[i] = __atomic_load_n(&slot->ops[i].result, __ATOMIC_RELAXED);
  return results;
}

Result<uint64_t> StubThread::run_one(const StubCall& call) {
  const std::vector<int64_t> results = TRY(run({call}));
  if (results[0] < 0 && results[0] > -4096) return Errno(static_cast<int>(-results[0]));
  return static_cast<uint64_t>(results[0]);
}

// The child begins with this thread's frame, whose addresses become those of its own slot.
void StubThread::copy_frame_to(StubThread& child) {
  const uint64_t from = frame_offset_ - 8;
  memcpy(reinterpret_cast<char*>(child.slot()) + from, reinterpret_cast<char*>(slot()) + from, STUB_SLOT_SIZE - from);
  child.frame_offset_ = frame_offset_;
  child.info_offset_ = info_offset_;
  child.fp_offset_ = fp_offset_;
  child.fp_size_ = fp_size_;
  const uint64_t address = STUB_SLOTS + child.slot_ * STUB_SLOT_SIZE;
  const uint64_t fp = fp_size_ == 0 ? 0 : address + fp_offset_;
  const abi::SigStack stack{address + STUB_STACK_OFFSET, 0, 0, STUB_SLOT_SIZE - STUB_STACK_OFFSET};
  memcpy(child.frame() + offsetof(abi::UContext, fpstate), &fp, sizeof fp);
  memcpy(child.frame() + offsetof(abi::UContext, stack), &stack, sizeof stack);
  StubSlot* theirs = child.slot();
  memset(theirs, 0, sizeof *theirs);
  theirs->frame_offset = frame_offset_;
  theirs->info_offset = info_offset_;
  theirs->signal = STUB_INTERRUPT_SIGNAL;
  theirs->socket = slot()->socket;
  theirs->thunks = CallSites::allowed() ? 1 : 0;
}

Result<std::unique_ptr<StubThread>> StubThread::fork(uint64_t extra_flags, uint64_t child_tid) {
  if (!need_frame()) return Errno(ESRCH);
  std::shared_ptr<AddressSpace> memory = TRY(AddressSpace::create());
  TRY(memory->take_slot(static_cast<int>(slot_)));
  StubThread blank(memory, slot_, nullptr);
  copy_frame_to(blank);
  blank.slot()->announce = 1;
  const AddressLimitLifted lifted(process_->pid());
  const int fds[] = {memory->slots_fd(), memory->stub_socket_fd()};
  StubSlot* slot = this->slot();
  {
    const auto held = memory_->call_sites().hold();
    std::lock_guard guard(memory_->descriptors_lock);
    TRY(send_descriptors(memory_->socket(), fds));
    slot->clone_flags = CLONE_PARENT | SIGCHLD | extra_flags;
    slot->clone_slot = STUB_SLOTS + slot_ * STUB_SLOT_SIZE;
    slot->clone_child_tid = child_tid;
    slot->clone_new_memory = 1;
    hand_over(STUB_CLONE);
    if (!await_turn()) return Errno(ESRCH);
    memory_->call_sites().copy_held(memory->call_sites());
  }
  const int64_t result = __atomic_load_n(&slot->clone_result, __ATOMIC_RELAXED);
  if (result <= 0) return Errno(result < 0 && result > -4096 ? static_cast<int>(-result) : EAGAIN);
  std::unique_ptr<StubThread> child = TRY(arrive(std::move(memory), slot_));
  lifted.hand_on(child->process_->pid());
  pace_.give_cpus(child->host_tid_);
  child->frame_offset_ = frame_offset_;
  child->info_offset_ = info_offset_;
  child->fp_offset_ = fp_offset_;
  child->fp_size_ = fp_size_;
  return child;
}

Result<std::unique_ptr<StubThread>> StubThread::clone_shared(bool process, uint64_t extra_flags, uint64_t child_tid, uint64_t tls) {
  if (!need_frame()) return Errno(ESRCH);
  const uint32_t index = TRY(memory_->take_slot());
  std::unique_ptr<StubThread> child(new StubThread(memory_, index, nullptr));
  copy_frame_to(*child);
  child->slot()->announce = process ? 1 : 0;
  StubSlot* slot = this->slot();
  slot->clone_flags = (process ? CLONE_PARENT | CLONE_VM | CLONE_FILES | SIGCHLD
                               : CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM) |
                      extra_flags;
  slot->clone_slot = STUB_SLOTS + index * STUB_SLOT_SIZE;
  slot->clone_child_tid = child_tid;
  slot->clone_tls = tls;
  slot->clone_new_memory = 0;
  if (!process) store(child->slot()->turn, STUB_TURN_KERNEL);  // it is there when it is there, and does what it has been asked by then
  hand_over(STUB_CLONE);
  if (!await_turn()) return Errno(ESRCH);
  const int64_t result = __atomic_load_n(&slot->clone_result, __ATOMIC_RELAXED);
  if (result <= 0) {
    memory_->free_slot(index, process_->pid(), 0);
    return Errno(result < 0 && result > -4096 ? static_cast<int>(-result) : EAGAIN);
  }
  if (process) {
    std::unique_ptr<StubThread> other = TRY(arrive(memory_, index));
    pace_.give_cpus(other->host_tid_);
    other->frame_offset_ = frame_offset_;
    other->info_offset_ = info_offset_;
    other->fp_offset_ = fp_offset_;
    other->fp_size_ = fp_size_;
    return other;
  }
  // The stub's word for it; a thread of another process it cannot be.
  if (syscall(SYS_tgkill, process_->pid(), static_cast<pid_t>(result), 0) != 0) return Errno(EIO);
  child->process_ = process_;
  child->host_tid_ = static_cast<pid_t>(result);
  pace_.give_cpus(child->host_tid_);
  return child;
}

Result<void> StubThread::trap_everything() {
  TRY(run_one({SYS_seccomp, {SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, STUB_TRAP_FILTER}}));
  process_->inherit_traps();
  return {};
}

namespace {

uint64_t native_entry() {
  StubHeader header;
  memcpy(&header, caisson_stub_blob, sizeof header);
  return header.native_call;
}
constexpr uint64_t kSyscallLength = 2, kMoveLength = 3;

}  // namespace

void StubThread::begin_native_call(abi::Registers& regs) {
  static const uint64_t entry = native_entry();
  regs.rip = entry;
}

abi::Registers StubThread::native_result(const abi::Registers& regs, const abi::Registers& before) {
  abi::Registers result = before;
  const uint64_t at = regs.rip - native_entry();
  if (at == 0)
    result.rax = static_cast<uint64_t>(-static_cast<int64_t>(kRestartSys));
  else
    result.rax = at < kSyscallLength + kMoveLength ? regs.rax : regs.rdi;
  return result;
}

void StubThread::answer_numbers(const Numbers& numbers) {
  slot()->pid = static_cast<uint32_t>(numbers.pid);
  slot()->tid = static_cast<uint32_t>(numbers.tid);
  answer_parent(numbers.parent);
  knows_numbers_ = true;
}

void StubThread::answer_parent(pid_t parent) { store(slot()->parent, static_cast<uint32_t>(parent)); }

void StubThread::answer_credentials(const CredentialsRef& creds) {
  if (creds == answered_creds_) return;
  answered_creds_ = creds;
  slot()->uid = creds->uid;
  slot()->euid = creds->euid;
  slot()->gid = creds->gid;
  slot()->egid = creds->egid;
}

void StubThread::answer(bool on) {
  if (load(slot()->answer) != (on ? 1 : 0)) store(slot()->answer, on ? 1 : 0);
}

void StubThread::exit_thread() {
  StubSlot* slot = this->slot();
  slot->count = 1;
  slot->receive = 0;
  slot->ops[0] = {};
  slot->ops[0].number = SYS_exit;
  hand_over(STUB_BATCH);
}

size_t StubThread::fp_state_size() { return need_frame() ? fp_size_ : 0; }

std::vector<uint8_t> StubThread::fp_state() {
  std::vector<uint8_t> state(fp_state_size());
  memcpy(state.data(), reinterpret_cast<char*>(slot()) + fp_offset_, state.size());
  return state;
}

Result<void> StubThread::set_fp_state(const std::vector<uint8_t>& state) {
  if (fp_state_size() == 0 || state.size() != fp_size_) return Errno(EINVAL);
  char* place = reinterpret_cast<char*>(slot()) + fp_offset_;
  // The software part says what the host saved; it stays as the host wrote it.
  memcpy(place, state.data(), kFpSoftware);
  memcpy(place + 512, state.data() + 512, state.size() - 512);
  return {};
}

void StubThread::reset_fp_state() {
  if (fp_state_size() < 576) return;
  char* place = reinterpret_cast<char*>(slot()) + fp_offset_;
  memset(place, 0, kFpSoftware);
  const uint16_t control = 0x37f;
  const uint32_t mxcsr = 0x1f80;
  memcpy(place, &control, sizeof control);
  memcpy(place + 24, &mxcsr, sizeof mxcsr);
  memset(place + 512, 0, 16);  // XSTATE_BV: every component in its initial state; and XCOMP_BV
}

}  // namespace caisson::kernel
