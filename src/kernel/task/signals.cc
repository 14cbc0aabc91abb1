#include "kernel/task/signals.h"

#include <signal.h>

#include <memory>

namespace caisson::kernel {

using abi::sig_bit;
using abi::SigSet;

bool PendingSignals::add(const abi::SigInfo& info) {
  const SigSet bit = sig_bit(info.signo);
  if (info.signo < 32 && (set_ & bit) != 0) return false;
  if (queue_.size() >= kMost) {
    // A standard signal is never lost, only what it tells of itself.
    if (info.signo < 32) set_ |= bit;
    return info.signo < 32;
  }
  queue_.push_back(info);
  set_ |= bit;
  return true;
}

bool PendingSignals::take(SigSet blocked, abi::SigInfo* info, SigSet only) {
  SigSet ready = set_ & ~blocked & only;
  if (ready == 0) return false;
  const SigSet faults = ready & kFaultSignals;
  const int signal = __builtin_ctzll(faults != 0 ? faults : ready) + 1;
  auto found = queue_.end();
  int same = 0;
  for (auto it = queue_.begin(); it != queue_.end(); ++it) {
    if (it->signo != signal) continue;
    if (found == queue_.end()) found = it;
    ++same;
  }
  if (found == queue_.end()) {
    *info = abi::SigInfo();
    info->signo = signal;
    info->code = SI_USER;
  } else {
    *info = *found;
    queue_.erase(found);
  }
  if (same <= 1) set_ &= ~sig_bit(signal);
  return true;
}

void PendingSignals::drop(SigSet signals) {
  set_ &= ~signals;
  queue_.remove_if([&](const abi::SigInfo& info) { return (sig_bit(info.signo) & signals) != 0; });
}

abi::SigAction SignalHandlers::get(int signal) const {
  std::lock_guard guard(lock_);
  return actions_[signal - 1];
}

void SignalHandlers::set(int signal, const abi::SigAction& action) {
  std::lock_guard guard(lock_);
  actions_[signal - 1] = action;
  actions_[signal - 1].mask &= ~kUnblockable;
}

std::shared_ptr<SignalHandlers> SignalHandlers::copy() const {
  auto other = std::make_shared<SignalHandlers>();
  std::lock_guard guard(lock_);
  other->actions_ = actions_;
  return other;
}

std::shared_ptr<SignalHandlers> SignalHandlers::after_exec() const {
  auto other = copy();
  other->clear_handlers();
  return other;
}

void SignalHandlers::clear_handlers() {
  std::lock_guard guard(lock_);
  for (abi::SigAction& action : actions_) {
    const bool ignored = action.handler == 1;
    action = abi::SigAction();
    if (ignored) action.handler = 1;
  }
}

bool SignalHandlers::ignores(int signal) const {
  const uint64_t handler = get(signal).handler;
  return handler == 1 || (handler == 0 && default_action(signal) == DefaultAction::Ignore);
}

DefaultAction default_action(int signal) {
  switch (signal) {
    case SIGCHLD:
    case SIGURG:
    case SIGWINCH:
      return DefaultAction::Ignore;
    case SIGCONT:
      return DefaultAction::Continue;
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
      return DefaultAction::Stop;
    case SIGQUIT:
    case SIGILL:
    case SIGTRAP:
    case SIGABRT:
    case SIGBUS:
    case SIGFPE:
    case SIGSEGV:
    case SIGXCPU:
    case SIGXFSZ:
    case SIGSYS:
      return DefaultAction::Core;
    default:
      return DefaultAction::Terminate;
  }
}

}  // namespace caisson::kernel
