// A task's seccomp mode and filters. A SeccompState is immutable; a task's is replaced under Kernel::tasks (by itself, or by another
// thread's SECCOMP_FILTER_FLAG_TSYNC).
#pragma once

#include <atomic>
#include <bitset>
#include <memory>
#include <mutex>
#include <vector>

#include "kernel/seccomp/program.h"

namespace caisson::kernel {

class SeccompListener;

struct SeccompFilter {
  explicit SeccompFilter(SeccompProgram p) : program(std::move(p)) {}
  ~SeccompFilter();  // whoever listens is told that nobody will ask any more
  SeccompProgram program;
  bool log = false;                           // SECCOMP_FILTER_FLAG_LOG
  std::shared_ptr<SeccompListener> listener;  // of SECCOMP_RET_USER_NOTIF; null: nobody listens
};

// What the filters say of a call.
struct SeccompAnswer {
  uint32_t value = SECCOMP_RET_ALLOW;     // action and data
  const SeccompFilter* filter = nullptr;  // the one whose answer it is
};

class SeccompState {
 public:
  static constexpr size_t kMostCalls = 512;
  static constexpr size_t kMostInstructions = 32768;  // MAX_INSNS_PER_PATH

  static std::shared_ptr<const SeccompState> strict();
  // `before` (null: none) and one more filter. ENOMEM: more than kMostInstructions in all (each filter counts 4 more).
  static Result<std::shared_ptr<const SeccompState>> with(const SeccompState* before, std::shared_ptr<const SeccompFilter> filter);

  int mode() const { return strict_ ? SECCOMP_MODE_STRICT : SECCOMP_MODE_FILTER; }
  size_t filter_count() const { return filters_.size(); }
  // The filters of `other` (null: none) are the first of these: what may be replaced by them.
  bool extends(const SeccompState* other) const;
  // The most severe answer; of equals the newest filter's.
  SeccompAnswer ask(const seccomp_data& data) const;
  // The call passes whatever its arguments are.
  bool always_allows(uint32_t arch, uint64_t number) const;
  bool has_listener() const;
  bool looks_at_place() const { return looks_at_place_; }
  // Some call that guests make natively must be seen; some that stubs answer (task/answers.h).
  bool wants_native_calls() const { return wants_native_calls_; }
  bool wants_answered_calls() const { return wants_answered_calls_; }

 private:
  SeccompState() = default;
  void look_at_short_ways();
  bool strict_ = false;
  std::vector<std::shared_ptr<const SeccompFilter>> filters_;  // oldest first
  std::bitset<kMostCalls> always_;
  size_t instructions_ = 0;
  bool wants_native_calls_ = false, wants_answered_calls_ = false, looks_at_place_ = false;
};

// The slot of a task. Reading from any thread; set() with Kernel::tasks held.
class TaskSeccomp {
 public:
  bool on() const { return on_.load(std::memory_order_acquire); }
  bool wants_native_calls() const { return wants_native_calls_.load(std::memory_order_acquire); }
  bool wants_answered_calls() const { return wants_answered_calls_.load(std::memory_order_acquire); }
  std::shared_ptr<const SeccompState> get() const {
    std::lock_guard guard(lock_);
    return state_;
  }
  void set(std::shared_ptr<const SeccompState> state);

 private:
  mutable std::mutex lock_;
  std::shared_ptr<const SeccompState> state_;
  std::atomic<bool> on_{false}, wants_native_calls_{false}, wants_answered_calls_{false};
};

}  // namespace caisson::kernel
