#include "kernel/seccomp/state.h"

#include <linux/audit.h>
#include <sys/syscall.h>

#include <algorithm>

#include "kernel/platform/filter.h"
#include "kernel/seccomp/listener.h"
#include "kernel/task/answers.h"

namespace caisson::kernel {
namespace {

constexpr size_t kPenalty = 4;  // of each filter in a chain
// Smaller is more severe (linux/seccomp.h: "the ordering ensures that a min_t() over composed return values always selects the least
// permissive choice"), the numbers taken as signed.
int32_t severity(uint32_t answer) { return static_cast<int32_t>(answer & SECCOMP_RET_ACTION_FULL); }

}  // namespace

SeccompFilter::~SeccompFilter() {
  if (listener) listener->abandon();
}

std::shared_ptr<const SeccompState> SeccompState::strict() {
  std::shared_ptr<SeccompState> state(new SeccompState);
  state->strict_ = true;
  for (const int number : {SYS_read, SYS_write, SYS_exit, SYS_rt_sigreturn}) state->always_.set(static_cast<size_t>(number));
  state->look_at_short_ways();
  return state;
}

Result<std::shared_ptr<const SeccompState>> SeccompState::with(const SeccompState* before, std::shared_ptr<const SeccompFilter> filter) {
  std::shared_ptr<SeccompState> state(before != nullptr ? new SeccompState(*before) : new SeccompState);
  if (before == nullptr) state->always_.set();
  if (state->instructions_ + filter->program.size() > kMostInstructions) return Errno(ENOMEM);
  state->instructions_ += filter->program.size() + kPenalty;
  for (size_t number = 0; number < kMostCalls; ++number)
    if (state->always_[number])
      state->always_[number] = filter->program.constant_answer(AUDIT_ARCH_X86_64, static_cast<int>(number)) == SECCOMP_RET_ALLOW;
  state->looks_at_place_ |= filter->program.looks_at_place();
  state->filters_.push_back(std::move(filter));
  state->look_at_short_ways();
  return std::shared_ptr<const SeccompState>(std::move(state));
}

void SeccompState::look_at_short_ways() {
  const auto passes = [&](int number) { return always_[static_cast<size_t>(number)]; };
  const auto& rows = native_calls();
  wants_native_calls_ = !std::all_of(rows.begin(), rows.end(), [&](const NativeCall& row) { return passes(row.number); });
  wants_answered_calls_ = !std::all_of(std::begin(kAnsweredCalls), std::end(kAnsweredCalls), passes);
}

bool SeccompState::extends(const SeccompState* other) const {
  if (other == nullptr) return true;
  if (other->strict_ || other->filters_.size() > filters_.size()) return false;
  return std::equal(other->filters_.begin(), other->filters_.end(), filters_.begin());
}

SeccompAnswer SeccompState::ask(const seccomp_data& data) const {
  SeccompAnswer answer;
  for (auto filter = filters_.rbegin(); filter != filters_.rend(); ++filter) {
    const uint32_t value = (*filter)->program.run(data);
    if (severity(value) < severity(answer.value)) answer = {value, filter->get()};
  }
  return answer;
}

bool SeccompState::always_allows(uint32_t arch, uint64_t number) const {
  return arch == AUDIT_ARCH_X86_64 && number < kMostCalls && always_[number];
}

bool SeccompState::has_listener() const {
  return std::any_of(filters_.begin(), filters_.end(), [](const auto& filter) { return filter->listener != nullptr; });
}

void TaskSeccomp::set(std::shared_ptr<const SeccompState> state) {
  std::lock_guard guard(lock_);
  on_.store(state != nullptr, std::memory_order_release);
  wants_native_calls_.store(state != nullptr && state->wants_native_calls(), std::memory_order_release);
  wants_answered_calls_.store(state != nullptr && state->wants_answered_calls(), std::memory_order_release);
  state_.swap(state);
}

}  // namespace caisson::kernel
