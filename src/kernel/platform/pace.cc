#include "kernel/platform/pace.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "kernel/klog.h"
#include "kernel/limits.h"
#include "kernel/platform/host_calls.h"
#include "kernel/platform/host_proc.h"

namespace caisson::kernel {
namespace {

// Spinning pays where the other side is quicker than this; so long it is tried. The first time the stub has yet to wake on its CPU.
constexpr uint32_t kQuick = 8, kSpin = 20, kFirstSpin = 200;
// Calls further apart than this are left to the host's scheduler.
constexpr uint32_t kFrequent = 1000;
// So often threads that are tied to CPUs may choose others.
constexpr uint32_t kStay = 20'000;
constexpr uint32_t kVainAtMost = 3, kPause = 10'000, kMostPauses = 100, kGoodEnough = 200;
constexpr int64_t kTickNs = 5'000'000;
constexpr int kTicksToSettle = 4, kQuietTicks = 20;
constexpr uint32_t kUntimed = 8;
constexpr uint32_t kFirstCalls = 8;  // of a thread: nothing is known of it yet
constexpr size_t kStack = 64 << 10;

void average(int64_t& average, uint64_t sample, uint64_t most) { average += (static_cast<int64_t>(std::min(sample, most)) - average) / 8; }

cpu_set_t only(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return set;
}

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000L + now.tv_nsec;
}

}  // namespace

Pace::~Pace() {
  leave_spinning();
  settle();
  PaceKeeper::get().remove(*this);
}

void Pace::before_guest(pid_t stub) {
  PaceKeeper& keeper = PaceKeeper::get();
  // The clock takes as long as an eighth of a call: while all goes well it is asked for every eighth.
  const bool timed = mode() != Mode::Spinning || ++untimed_ >= kUntimed || !keeper.may_go_on_spinning();
  const uint64_t now = timed || turn_since_ != 0 ? ticks_now() : 0;
  if (turn_since_ != 0) average(kernel_average_, now - turn_since_, keeper.ticks_of(4 * kSpin));
  const uint32_t calls = calls_.load(std::memory_order_relaxed);
  calls_.store(calls + 1, std::memory_order_relaxed);
  if (!timed) {
    guest_since_ = 0;
    return;
  }
  untimed_ = 0;
  if (calls == 0) sched_setaffinity(0, sizeof keeper.cpus(), &keeper.cpus());
  const int64_t quick = static_cast<int64_t>(keeper.ticks_of(kQuick));
  const bool frequent = calls > kFirstCalls && guest_average_ < static_cast<int64_t>(keeper.ticks_of(kFrequent));
  guest_since_ = now;
  if (!frequent) {
    if (mode() != Mode::Free) {
      leave_spinning();
      settle();
    }
    return;
  }
  keeper.notice();
  const bool spin = guest_average_ < quick && kernel_average_ < quick && now >= no_spinning_until_;
  if (mode() == Mode::Spinning) {
    if (spin && keeper.may_go_on_spinning() && now - pinned_since_ < keeper.ticks_of(kStay)) return;
    leave_spinning();
    return settle();
  }
  if (spin && keeper.take_spinning()) {
    if (part(stub)) return;
    keeper.give_spinning_back();
  }
  follow(stub);
}

void Pace::after_guest() {
  // What it took to wake on another CPU says nothing of the guest.
  const bool first = std::exchange(first_spin_, false);
  turn_since_ = guest_since_ == 0 ? 0 : ticks_now();
  if (turn_since_ != 0 && !first) average(guest_average_, turn_since_ - guest_since_, PaceKeeper::get().ticks_of(8 * kFrequent));
  if (mode() == Mode::Spinning && ++good_ > kGoodEnough) good_ = vain_ = 0;
}

void Pace::spun_in_vain() {
  PaceKeeper& keeper = PaceKeeper::get();
  good_ = 0;
  // Somebody had the other's CPU for a moment. Both have slept by the time it goes on, so that the next look takes longer, too.
  first_spin_ = true;
  if (++vain_ < kVainAtMost) return;
  leave_spinning();
  settle();
  // Longer and longer: a second at most.
  const uint32_t pauses = std::min(1U << std::min(vain_ - kVainAtMost, 10U), kMostPauses);
  no_spinning_until_ = ticks_now() + keeper.ticks_of(kPause) * pauses;
}

uint32_t Pace::spin_ticks() const {
  if (mode() != Mode::Spinning) return 0;
  return static_cast<uint32_t>(PaceKeeper::get().ticks_of(first_spin_ ? kFirstSpin : kSpin));
}

void Pace::leave_spinning() {
  if (mode() != Mode::Spinning) return;
  mode_ = Mode::Free;
  PaceKeeper::get().give_spinning_back();
}

// Both threads to the CPU where the kernel's is now: the stub sleeps, so that it costs nothing to have it wake elsewhere.
void Pace::follow(pid_t stub) {
  if (mode() == Mode::Following) {
    if (guest_since_ - pinned_since_ < PaceKeeper::get().ticks_of(kStay)) return;
    settle();  // this time the host's scheduler says where
    return;
  }
  int cpu = sched_getcpu();
  {
    std::lock_guard guard(lock_);
    if (pinned_ || sched_getaffinity(stub, sizeof stub_cpus_, &stub_cpus_) != 0) return;
    if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &stub_cpus_))  // the guest has chosen others
      for (cpu = 0; cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &stub_cpus_);) ++cpu;
    const cpu_set_t here = only(cpu);
    if (!pin_locked(stub, here, here, Mode::Following)) return;
  }
  PaceKeeper::get().add(*this);
}

// Each on CPUs where the other is not: left to themselves they would go on where they were, on one. The stub sleeps still.
bool Pace::part(pid_t stub) {
  const int cpu = sched_getcpu();
  settle();
  {
    std::lock_guard guard(lock_);
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(stub, sizeof stub_cpus_, &stub_cpus_) != 0) return false;
    cpu_set_t others;
    CPU_AND(&others, &stub_cpus_, &PaceKeeper::get().cpus());
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) == 0 || !pin_locked(stub, others, only(cpu), Mode::Spinning)) return false;
    first_spin_ = true;
  }
  PaceKeeper::get().add(*this);
  return true;
}

// stub_cpus_ says already what the stub gets back.
bool Pace::pin_locked(pid_t stub, const cpu_set_t& its, const cpu_set_t& ours, Mode mode) {
  if (sched_setaffinity(stub, sizeof its, &its) != 0) return false;
  stub_ = stub;
  ours_ = static_cast<pid_t>(syscall(SYS_gettid));
  pinned_ = true;
  if (sched_setaffinity(0, sizeof ours, &ours) != 0) {
    settle_locked();
    return false;
  }
  pinned_since_ = guest_since_;
  mode_ = mode;
  return true;
}

void Pace::settle_locked() {
  if (!pinned_) return;
  pinned_ = false;
  sched_setaffinity(stub_, sizeof stub_cpus_, &stub_cpus_);
  const cpu_set_t& ours = PaceKeeper::get().cpus();
  sched_setaffinity(ours_, sizeof ours, &ours);
  Mode following = Mode::Following;
  mode_.compare_exchange_strong(following, Mode::Free);
}

void Pace::settle() {
  std::lock_guard guard(lock_);
  settle_locked();
}

void Pace::give_cpus(pid_t child) {
  std::lock_guard guard(lock_);
  if (pinned_) sched_setaffinity(child, sizeof stub_cpus_, &stub_cpus_);
}

PaceKeeper& PaceKeeper::get() {
  static PaceKeeper* keeper = new PaceKeeper;  // lives as long as its thread, which ends with the process
  return *keeper;
}

PaceKeeper::PaceKeeper() {
  // Of the first thread, which serves no guest.
  if (sched_getaffinity(getpid(), sizeof cpus_, &cpus_) != 0) CPU_ZERO(&cpus_);
}

bool PaceKeeper::take_spinning() {
  if (spinning_.load(std::memory_order_relaxed) >= allowed_.load(std::memory_order_relaxed)) return false;
  if (spinning_.fetch_add(1, std::memory_order_relaxed) < allowed_.load(std::memory_order_relaxed)) return true;
  give_spinning_back();
  return false;
}

void PaceKeeper::add(Pace& pace) {
  std::lock_guard guard(lock_);
  if (!std::exchange(pace.listed_, true)) pinned_.push_back(&pace);
}

void PaceKeeper::remove(Pace& pace) {
  std::lock_guard guard(lock_);
  if (std::exchange(pace.listed_, false)) std::erase(pinned_, &pace);
}

void PaceKeeper::wake() {
  if (asleep_.exchange(0) == 0) return;
  // What was known is old, and a quick row of calls is over before the keeper has looked twice. This thread and its stub are to be the
  // pair: a CPU for each.
  count_spare_cpus(0, 1);
  std::lock_guard guard(lock_);
  if (std::exchange(begun_, true)) return futex_wake_private(reinterpret_cast<uint32_t*>(&asleep_));
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStack);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const int error = pthread_create(
      &thread, &attributes,
      [](void* keeper) -> void* {
        static_cast<PaceKeeper*>(keeper)->run();
        return nullptr;
      },
      this);
  pthread_attr_destroy(&attributes);
  // Without it everybody waits asleep, and nobody is tied to a CPU for long.
  if (error != 0) klog(LogLevel::Warning, "no thread to watch the CPUs: %s", strerrordesc_np(error));
}

// How many more may spin: CPUs without a runnable thread on the whole host. The figure is of one moment, so it must be told twice in a row.
// Of two threads that follow each other one sleeps, but the host's scheduler counts it (since Linux 6.12 it leaves a queue late).
// own: how many of the runnable threads are not to be counted.
void PaceKeeper::count_spare_cpus(int own, int in_a_row) {
  const Result<std::string> text = read_host_proc("loadavg", 256);
  unsigned running = 0;
  if (!text || sscanf(text->c_str(), "%*s %*s %*s %u/", &running) != 1) {
    allowed_ = 0;
    return;
  }
  const int others = static_cast<int>(running) - own - followers();
  // Within a quota that is worth fewer CPUs, spinning would take from the guest's own time.
  const int spare = static_cast<int>(visible_cpus().size()) - others, spinning = spinning_.load();
  spare_in_a_row_ = spare > 0 ? spare_in_a_row_ + 1 : 0;
  if (spare < 0)
    allowed_ = std::max(0, spinning + spare);
  else
    allowed_ = spinning + (spare_in_a_row_ >= in_a_row ? spare : 0);
}

int PaceKeeper::followers() {
  std::lock_guard guard(lock_);
  return static_cast<int>(std::count_if(pinned_.begin(), pinned_.end(), [](Pace* pace) { return pace->mode() == Pace::Mode::Following; }));
}

void PaceKeeper::settle_quiet_ones() {
  std::lock_guard guard(lock_);
  std::erase_if(pinned_, [](Pace* pace) {
    std::lock_guard inner(pace->lock_);
    const uint32_t calls = pace->calls_.load(std::memory_order_relaxed);
    if (pace->pinned_ && calls != std::exchange(pace->seen_calls_, calls)) return false;
    pace->settle_locked();
    pace->listed_ = false;
    return true;
  });
}

[[noreturn]] void PaceKeeper::run() {
  sched_setaffinity(0, sizeof cpus_, &cpus_);
  int quiet = 0;
  const uint64_t begin_ticks = ticks_now();
  const int64_t begin = now_ns();
  for (unsigned round = 1;; ++round) {
    const uint32_t never = 0;
    futex_wait_private(&never, 0, now_ns() + kTickNs);
    if (const int64_t passed = (now_ns() - begin) / 1000; passed > 1000)
      ticks_per_microsecond_ = static_cast<uint32_t>(std::max<uint64_t>(1, (ticks_now() - begin_ticks) / static_cast<uint64_t>(passed)));
    count_spare_cpus(1, 2);  // but this thread
    if (round % kTicksToSettle == 0) settle_quiet_ones();
    quiet = busy_.exchange(false) ? 0 : quiet + 1;
    if (quiet < kQuietTicks) continue;
    allowed_ = 0;
    quiet = 0;
    asleep_ = 1;
    while (asleep_ != 0) futex_wait_private(reinterpret_cast<uint32_t*>(&asleep_), 1, -1);
  }
}

}  // namespace caisson::kernel
