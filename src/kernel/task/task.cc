#include "kernel/task/task.h"

#include <signal.h>
#include <string.h>
#include <time.h>

#include <algorithm>

#include "kernel/klog.h"
#include "kernel/platform/host_calls.h"
#include "kernel/platform/passed_memory.h"
#include "kernel/platform/stub_thread.h"
#include "kernel/seccomp/enforce.h"
#include "kernel/signal/deliver.h"
#include "kernel/signal/send.h"
#include "kernel/syscalls/table.h"
#include "kernel/task/answers.h"
#include "kernel/task/current.h"
#include "kernel/task/exit.h"
#include "kernel/task/kernel.h"
#include "kernel/time/clock.h"
#include "kernel/trace/trace.h"

namespace caisson::kernel {

namespace {
int64_t clock_now(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return now.tv_sec * 1'000'000'000L + now.tv_nsec;
}
}  // namespace

int64_t monotonic_now() { return clock_now(CLOCK_MONOTONIC); }
int64_t realtime_now() { return clock_now(CLOCK_REALTIME); }

Deadline Deadline::after(int64_t nanoseconds) {
  const int64_t now = monotonic_now();
  if (nanoseconds < 0) nanoseconds = 0;
  return {nanoseconds > INT64_MAX - now ? INT64_MAX : now + nanoseconds};
}

int64_t Deadline::left() const { return std::max<int64_t>(0, nanoseconds - monotonic_now()); }

Path FsContext::root() const {
  std::lock_guard guard(lock_);
  return root_;
}
Path FsContext::cwd() const {
  std::lock_guard guard(lock_);
  return cwd_;
}
// The old place is dropped outside the lock.
void FsContext::set_root(Path path) {
  std::lock_guard guard(lock_);
  std::swap(root_, path);
}
void FsContext::set_cwd(Path path) {
  std::lock_guard guard(lock_);
  std::swap(cwd_, path);
}
std::shared_ptr<FsContext> FsContext::copy() const {
  std::lock_guard guard(lock_);
  auto other = std::make_shared<FsContext>(root_, cwd_);
  other->umask = umask.load();
  return other;
}

void list_task_locked(Task& task) {
  for (PidNamespace* at = task.id->space().get(); at != nullptr; at = at->parent.get()) at->tasks[task.id->in(*at)] = &task;
}

void unlist_task_locked(Task& task) {
  for (PidNamespace* at = task.id->space().get(); at != nullptr; at = at->parent.get()) at->tasks.erase(task.id->in(*at));
}

void list_group_locked(const std::shared_ptr<ThreadGroup>& group) {
  for (PidNamespace* at = group->pids.get(); at != nullptr; at = at->parent.get()) at->groups[group->id->in(*at)] = group;
}

void unlist_group_locked(ThreadGroup& group) {
  const std::shared_ptr<ThreadGroup> self = group.shared_from_this();  // the maps may be the last to hold it
  for (PidNamespace* at = group.pids.get(); at != nullptr; at = at->parent.get()) at->groups.erase(group.id->in(*at));
}

rlimit ThreadGroup::limit(int resource) const {
  std::lock_guard guard(limits_lock);
  return limits[resource];
}

Task::Task(Kernel& k) : kernel(k) {}
Task::~Task() = default;

pid_t Task::host_tid() const { return stub ? stub->host_tid() : -1; }

IoBuffer Task::buffer(uint64_t address, uint64_t length) {
  constexpr uint64_t kMost = 0x7ffff000;  // MAX_RW_COUNT
  return IoBuffer(host_tid(), UserSpan{address, std::min(length, kMost)});
}

Result<std::string> Task::read_string(UserPtr<const char> from, size_t most) {
  std::string text;
  uint64_t address = from.address();
  char piece[256];
  PassedMemory* passed = PassedMemory::of(host_tid());
  while (text.size() < most) {
    // Not across a page's end: the next page need not be there.
    size_t now = std::min({sizeof piece, most - text.size(), static_cast<size_t>(4096 - address % 4096)});
    if (const size_t here = passed != nullptr ? passed->read_front(address, piece, now) : 0; here != 0)
      now = here;
    else
      TRY(read_bytes(address, piece, now));
    if (const void* end = memchr(piece, 0, now); end != nullptr) {
      text.append(piece, static_cast<const char*>(end) - piece);
      return text;
    }
    text.append(piece, now);
    address += now;
  }
  return Errno(ENAMETOOLONG);
}

namespace {

// Reads a guest's memory page by page, each once as long as one stays on it: the texts of an environment lie side by side.
class PageReader {
 public:
  explicit PageReader(pid_t host) : host_(host) {}
  // From the address to the end of its page, valid until the next call. EFAULT.
  Result<std::string_view> rest_of_page(uint64_t address) {
    const uint64_t page = address & ~(kPage - 1);
    if (!here_ || page != page_) {
      here_ = false;
      TRY(read_guest(host_, page, bytes_.data(), kPage));
      page_ = page;
      here_ = true;
    }
    return std::string_view(bytes_.data() + (address - page), kPage - (address - page));
  }
  Result<void> read(uint64_t address, uint64_t* value) {
    const std::string_view piece = TRY(rest_of_page(address));
    if (piece.size() < sizeof *value) return read_guest(host_, address, value, sizeof *value);
    memcpy(value, piece.data(), sizeof *value);
    return {};
  }

 private:
  static constexpr uint64_t kPage = 4096;
  pid_t host_;
  bool here_ = false;
  uint64_t page_ = 0;
  std::array<char, kPage> bytes_;
};

}  // namespace

Result<std::vector<std::string>> Task::read_strings(UserPtr<const uint64_t> from, size_t most_bytes) {
  constexpr size_t kLongest = 131072;  // MAX_ARG_STRLEN
  std::vector<std::string> texts;
  if (!from) return texts;
  PageReader pointers(host_tid()), characters(host_tid());
  size_t bytes = 0;
  for (uint64_t i = 0;; ++i) {
    uint64_t address = 0;
    TRY(pointers.read((from + i).address(), &address));
    if (address == 0) return texts;
    std::string text;
    for (bool ended = false; !ended;) {
      const std::string_view piece = TRY(characters.rest_of_page(address));
      const size_t end = piece.find('\0');
      ended = end != piece.npos;
      text.append(piece.substr(0, end));
      address += piece.size();
      if (text.size() >= kLongest) return Errno(E2BIG);
    }
    bytes += text.size() + 1 + sizeof(uint64_t);
    if (bytes > most_bytes) return Errno(E2BIG);
    texts.push_back(std::move(text));
  }
}

Result<IoBuffer> Task::read_io_vectors(uint64_t vectors, int count) {
  struct Vector {
    uint64_t base, length;
  };
  if (count < 0 || count > 1024) return Errno(EINVAL);
  std::vector<Vector> raw(count);
  TRY(read_bytes(vectors, raw.data(), raw.size() * sizeof(Vector)));
  std::vector<UserSpan> pieces;
  uint64_t left = 0x7ffff000;
  for (const Vector& vector : raw) {
    if (static_cast<int64_t>(vector.length) < 0) return Errno(EINVAL);
    const uint64_t now = std::min(vector.length, left);
    if (now > 0) pieces.push_back({vector.base, now});
    left -= now;
  }
  return IoBuffer(host_tid(), std::move(pieces));
}

namespace {
constexpr uint64_t kTrapFlag = 0x100;
}

void Task::prepare_to_block() { __atomic_store_n(&awake_, 0, __ATOMIC_SEQ_CST); }

void Task::wake() {
  if (__atomic_exchange_n(&awake_, 1, __ATOMIC_SEQ_CST) == 0) futex_wake_private(&awake_);
}

bool Task::interrupted() {
  if (!attention.load(std::memory_order_seq_cst)) return false;
  std::lock_guard guard(kernel.tasks);
  if (leaving || group->exiting || group->stopped || group->frozen) return true;
  if (tracing && tracing->interrupt) return true;
  return ((pending.set() | group->pending.set()) & ~blocked) != 0;
}

abi::Registers& Task::registers() {
  if (stub) stub->complete(regs_);
  return regs_;
}

void Task::note_sleep() {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  const abi::Registers& regs = registers();
  // A tracer that it stops for may be setting them already (set_registers_locked).
  const auto now = [](const auto& place) { return __atomic_load_n(&place, __ATOMIC_RELAXED); };
  const uint64_t arguments[] = {now(regs.rdi), now(regs.rsi), now(regs.rdx), now(regs.r10), now(regs.r8), now(regs.r9)};
  for (size_t i = 0; i < doing.arguments.size(); ++i) doing.arguments[i].store(arguments[i], kRelaxed);
  doing.ip.store(now(regs.rip), kRelaxed);
  doing.sp.store(now(regs.rsp), kRelaxed);
  doing.bp.store(now(regs.rbp), kRelaxed);
  doing.asleep.store(monotonic_now(), std::memory_order_release);
}

Result<void> Task::sleep(Deadline deadline, bool killable) {
  const char* before = state.exchange("S");
  note_sleep();
  Result<void> result;
  for (;;) {
    if (killable ? dying() : interrupted()) {
      result = Errno(kRestartSys);
      break;
    }
    if (__atomic_load_n(&awake_, __ATOMIC_SEQ_CST) != 0) break;
    if (!futex_wait_private(&awake_, 0, deadline.nanoseconds)) {
      result = Errno(ETIMEDOUT);
      break;
    }
    // Only a signal that turned out to be none of ours: sleep on, unless somebody else woke us as well. The caller looks at its condition
    // again either way.
    break;
  }
  state = before;
  doing.asleep.store(0, std::memory_order_relaxed);
  if (result.ok() && (killable ? dying() : interrupted())) result = Errno(kRestartSys);
  return result;
}

Result<void> Task::block(Deadline deadline) { return sleep(deadline, false); }
Result<void> Task::block_killable(Deadline deadline) { return sleep(deadline, true); }

// Whether the event is the end of a call that the stub made in the guest's place.
bool Task::end_native_call(const StubEvent& event) {
  if (!native_call || event.kind == StubEvent::Dead) return false;
  regs_ = StubThread::native_result(registers(), *native_call);
  native_call.reset();
  in_syscall = true;
  return event.kind != StubEvent::Fault;
}

void Task::handle_event(const StubEvent& event) {
  if (end_native_call(event)) return;
  switch (event.kind) {
    case StubEvent::Syscall:
      in_syscall = true;
      syscall_number = regs_.rax;
      doing.call.store(static_cast<int>(syscall_number), std::memory_order_relaxed);
      set_result(static_cast<uint64_t>(event.foreign ? refuse_foreign_call(*this) : dispatch_syscall(*this)));
      doing.call.store(-1, std::memory_order_relaxed);
      break;
    case StubEvent::Interrupt:
      break;
    case StubEvent::Fault: {
      abi::SigInfo info;
      static_assert(sizeof info == sizeof event.info);
      memcpy(static_cast<void*>(&info), &event.info, sizeof info);
      force_signal(*this, info);
      break;
    }
    case StubEvent::Dead: {
      std::lock_guard guard(kernel.tasks);
      end_group_locked(*group, CLD_KILLED, SIGKILL);
      leaving = true;
      break;
    }
  }
}

// The flag that stops after one instruction is the tracer's, not the guest's; a system call has copied it.
void Task::step_done(const StubEvent& event) {
  abi::Registers& regs = registers();
  regs.eflags &= ~kTrapFlag;
  if (event.kind == StubEvent::Syscall) regs.r11 &= ~kTrapFlag;
}

// Until the stub has the turn. False: the task is at its end.
bool Task::enter_guest() {
  for (;;) {
    // A signal comes first: a call that the stub was to make in the guest's place is interrupted.
    if (native_call && attention.load(std::memory_order_seq_cst)) {
      end_native_call({.kind = StubEvent::Interrupt});
      if (trace_calls) trace_call_ends(*this);
    }
    if (attention.load(std::memory_order_seq_cst) || in_syscall || saved_mask) {
      const int64_t result = static_cast<int64_t>(regs_.rax);
      const bool plain = in_syscall && !(result <= -kRestartSys && result >= -kRestartBlock) && !saved_mask && !attention.load();
      if (!plain && !handle_signals(*this)) return false;
      in_syscall = false;
    }
    if (leaving) return false;
    if ((seccomp.wants_native_calls() || trace_calls) && !stub->process()->traps_everything() && !stub->trap_everything()) {
      klog(LogLevel::Error, "%d (%s): its seccomp filter cannot be enforced; the process is ended", tid, name.c_str());
      std::lock_guard guard(kernel.tasks);
      end_group_locked(*group, CLD_KILLED, SIGKILL);
      continue;
    }
    if (!enters_at_once()) continue;
    if (trace_step) {
      watch_begins(*this);
      registers().eflags |= kTrapFlag;
    }
    stub->resume(regs_);
    return true;
  }
}

// Whoever wants its attention from now on has to interrupt the stub. False: somebody has wanted it before.
bool Task::enters_at_once() {
  in_guest.store(true, std::memory_order_seq_cst);
  if (attention.load(std::memory_order_seq_cst)) {
    in_guest = false;
    return false;
  }
  prepare_answers(*this);
  return true;
}

void Task::begin() {
  if (leaving || saved_mask || trace_step || trace_calls || seccomp.wants_native_calls() || !enters_at_once()) return;
  begun_ = true;
  stub->begin(regs_);
}

void Task::serve_event() {
  StubEvent event = stub->wait(regs_);
  in_guest.store(false, std::memory_order_seq_cst);
  const bool ends_native = native_call.has_value(), is_call = ends_native || event.kind == StubEvent::Syscall, steps = trace_step;
  if (steps) step_done(event);
  if (steps && !is_call && !watch_ends(*this, event, false)) return;
  if (trace_calls && is_call && !ends_native) trace_call_begins(*this);
  handle_event(event);
  if (trace_calls && is_call && !native_call) trace_call_ends(*this);
  if (steps && is_call && !native_call && watch_ends(*this, event, true)) trace_step_ends(*this);
}

void Task::run() {
  const CurrentTask current(*this);
  begin_serving(*this);
  if (begun_) serve_event();
  while (enter_guest()) serve_event();
  finish();
}

void Task::finish() { finish_task(*this); }

}  // namespace caisson::kernel
