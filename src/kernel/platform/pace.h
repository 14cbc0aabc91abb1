// Pace: how the two host threads of a guest thread, its stub's and ours, wait for each other between system calls.
//   Free       they sleep, and the host's scheduler puts them where it likes. For guests that seldom call.
//   Following  both on one CPU: waking a thread there costs 2 us, on an idle CPU 40 (measured; the idle CPU must be interrupted, in a
//   virtual
//              machine by its hypervisor). For calls in quick succession while no CPU is to spare.
//   Spinning   on two CPUs, both look at the turn for some microseconds before they sleep: 0.2 us. Only where calls come so quickly that
//   the
//              wait is shorter than falling asleep, and only while a CPU has nothing else to do.
// One PaceKeeper per kernel process counts, every few milliseconds while there is something to decide, how many CPUs are to spare, and
// gives threads back to the host's scheduler that have stopped calling.
//
// Locks: Pace::lock_ is a leaf; PaceKeeper::lock_ is taken before it.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

namespace caisson::kernel {

// The processor's clock, about one tick in half a nanosecond: for intervals only.
inline uint64_t ticks_now() { return __builtin_ia32_rdtsc(); }

class Pace {
 public:
  enum class Mode : uint8_t { Free, Following, Spinning };

  Pace() = default;
  ~Pace();
  Pace(const Pace&) = delete;
  Pace& operator=(const Pace&) = delete;

  // By the kernel's thread, that is about to let the guest go on in host thread `stub`.
  void before_guest(pid_t stub);
  // By the same thread, when it has the turn again.
  void after_guest();
  // The kernel's thread has waited for longer than it should have spun.
  void spun_in_vain();
  // How long to look before sleeping, in ticks.
  uint32_t spin_ticks() const;
  Mode mode() const { return mode_.load(std::memory_order_relaxed); }

  // Gives both threads back to the host's scheduler, with the CPUs that they had: before anybody asks for or sets the stub's. Any thread.
  void settle();
  // `child` is a copy of the stub: it gets the CPUs that the stub would have.
  void give_cpus(pid_t child);

 private:
  friend class PaceKeeper;
  void follow(pid_t stub);
  bool part(pid_t stub);
  bool pin_locked(pid_t stub, const cpu_set_t& its, const cpu_set_t& ours, Mode mode);
  void leave_spinning();
  void settle_locked();

  // The kernel's thread only.
  uint64_t guest_since_ = 0, turn_since_ = 0;  // 0: not looked at the clock
  uint64_t no_spinning_until_ = 0;
  int64_t guest_average_ = 0, kernel_average_ = 0;  // ticks
  uint32_t vain_ = 0, good_ = 0, untimed_ = 0;
  bool first_spin_ = false;

  std::atomic<Mode> mode_{Mode::Free};
  std::atomic<uint32_t> calls_{0};
  std::mutex lock_;  // the rest
  bool pinned_ = false;
  bool listed_ = false;  // in the keeper's list; under the keeper's lock
  uint64_t pinned_since_ = 0;
  uint32_t seen_calls_ = 0;
  pid_t stub_ = 0, ours_ = 0;
  cpu_set_t stub_cpus_{};
};

class PaceKeeper {
 public:
  static PaceKeeper& get();
  // One more pair may spin. A token to be given back.
  bool take_spinning();
  // Whether those that spin may go on.
  bool may_go_on_spinning() const { return spinning_.load(std::memory_order_relaxed) <= allowed_.load(std::memory_order_relaxed); }
  void give_spinning_back() { spinning_.fetch_sub(1, std::memory_order_relaxed); }
  uint64_t ticks_of(uint32_t microseconds) const { return microseconds * ticks_per_microsecond_.load(std::memory_order_relaxed); }
  // There is something to decide: the keeper looks around for a while.
  void notice() {
    if (!busy_.load(std::memory_order_relaxed)) busy_.store(true, std::memory_order_relaxed);
    if (asleep_.load(std::memory_order_relaxed) != 0) wake();
  }
  void add(Pace& pace);
  void remove(Pace& pace);
  // The CPUs of the kernel process; threads that were made by one that follows its stub begin with less.
  const cpu_set_t& cpus() const { return cpus_; }

 private:
  PaceKeeper();
  [[noreturn]] void run();
  void count_spare_cpus(int own, int in_a_row);
  int followers();
  void settle_quiet_ones();
  void wake();

  std::atomic<uint32_t> ticks_per_microsecond_{2000};
  std::atomic<int> allowed_{0}, spinning_{0};
  std::atomic<int> spare_in_a_row_{0};  // who wakes the keeper counts, too
  std::atomic<bool> busy_{false};
  std::atomic<uint32_t> asleep_{1};
  std::mutex lock_;
  std::vector<Pace*> pinned_;
  bool begun_ = false;  // its thread is there; under lock_
  cpu_set_t cpus_{};
};

}  // namespace caisson::kernel
