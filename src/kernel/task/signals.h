// Signals of tasks and thread groups: what is pending, what handles it.
//
// Everything here is guarded by the tasks lock (Kernel::tasks), but SignalHandlers, which has its own, below it.
#pragma once

#include <array>
#include <list>
#include <memory>
#include <mutex>

#include "kernel/abi/signal.h"

namespace caisson::kernel {

// Queue of pending signals: one of each standard kind, any number of real-time ones (bounded by kMost), in the order in which Linux takes
// them.
class PendingSignals {
 public:
  static constexpr size_t kMost = 8192;
  // False: a standard signal that is pending already, or no room for a real-time one.
  bool add(const abi::SigInfo& info);
  // The next that is not in `blocked`, faults first, then the lowest number; false if there is none. Only signals of `only`.
  bool take(abi::SigSet blocked, abi::SigInfo* info, abi::SigSet only = ~0ULL);
  void drop(abi::SigSet signals);
  abi::SigSet set() const { return set_; }

 private:
  abi::SigSet set_ = 0;
  std::list<abi::SigInfo> queue_;
};

// What a process does with each signal (CLONE_SIGHAND shares it).
class SignalHandlers {
 public:
  abi::SigAction get(int signal) const;
  void set(int signal, const abi::SigAction& action);
  // The copy that fork makes.
  std::shared_ptr<SignalHandlers> copy() const;
  // What exec leaves: handlers become default, ignored stays ignored.
  std::shared_ptr<SignalHandlers> after_exec() const;
  void clear_handlers();           // CLONE_CLEAR_SIGHAND
  bool ignores(int signal) const;  // explicitly, or by default

 private:
  mutable std::mutex lock_;
  std::array<abi::SigAction, abi::kSignals> actions_{};
};

// What a signal does where its action is SIG_DFL.
enum class DefaultAction { Terminate, Core, Ignore, Stop, Continue };
DefaultAction default_action(int signal);

// SIGKILL and SIGSTOP: can be neither blocked, ignored nor handled.
inline constexpr abi::SigSet kUnblockable = abi::sig_bit(9) | abi::sig_bit(19);
inline constexpr abi::SigSet kStopSignals = abi::sig_bit(19) | abi::sig_bit(20) | abi::sig_bit(21) | abi::sig_bit(22);
inline constexpr abi::SigSet kFaultSignals =
    abi::sig_bit(4) | abi::sig_bit(5) | abi::sig_bit(7) | abi::sig_bit(8) | abi::sig_bit(11) | abi::sig_bit(31);

}  // namespace caisson::kernel
