#include "kernel/trace/debug_registers.h"

#include <signal.h>

#include <utility>

#include "kernel/platform/stub_thread.h"
#include "kernel/task/kernel.h"
#include "kernel/trace/trace.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kGuestTop = 1ULL << 47;
constexpr size_t kStatus = 6, kControl = 7;

DebugRegisters::Read reader(Task& task) {
  return [&task](uint64_t address, uint64_t& word, size_t size) { return task.read_bytes(address, &word, size).ok(); };
}

}  // namespace

DebugRegisters::Place DebugRegisters::place(uint64_t control, size_t number) {
  static constexpr size_t kSizes[] = {1, 2, 8, 4};
  const uint64_t bits = control >> (16 + 4 * number);
  return {(control >> (2 * number) & 3) != 0, static_cast<unsigned>(bits & 3), kSizes[bits >> 2 & 3]};
}

Result<void> DebugRegisters::check(uint64_t control) const {
  for (size_t i = 0; i < kPlaces; ++i) {
    const Place at = place(control, i);
    if (!at.enabled) continue;
    if (at.kind > 1 || (at.kind == 0 && at.size != 1) || addresses_[i] % at.size != 0) return Errno(EINVAL);
  }
  return {};
}

uint64_t DebugRegisters::get(size_t number) const {
  if (number < kPlaces) return addresses_[number];
  return number == kStatus ? status_ : number == kControl ? control_ : 0;
}

Result<void> DebugRegisters::set(size_t number, uint64_t value) {
  forget();
  if (number < kPlaces) {
    if (value >= kGuestTop) return Errno(EINVAL);
    const uint64_t old = std::exchange(addresses_[number], value);
    const Result<void> fits = check(control_);
    if (!fits) addresses_[number] = old;
    return fits;
  }
  if (number == kStatus) {
    status_ = value;
    return {};
  }
  if (number != kControl) return Errno(EIO);
  TRY(check(value));
  control_ = value;
  return {};
}

void DebugRegisters::begin(const Read& read) {
  if (std::exchange(known_, true)) return;
  for (size_t i = 0; i < kPlaces; ++i) {
    const Place at = place(control_, i);
    before_[i] = 0;
    if (at.enabled && at.kind == 1) (void)read(addresses_[i], before_[i], at.size);
  }
}

bool DebugRegisters::end(const Read& read, uint64_t rip) {
  bool hit = false;
  for (size_t i = 0; i < kPlaces; ++i) {
    const Place at = place(control_, i);
    if (!at.enabled) continue;
    bool here = at.kind == 0 && addresses_[i] == rip;
    uint64_t now = 0;
    if (at.kind == 1 && known_ && read(addresses_[i], now, at.size)) here = std::exchange(before_[i], now) != now;
    if (here) status_ |= 1ULL << i;
    hit = hit || here;
  }
  return hit;
}

void watch_begins(Task& task) {
  std::shared_ptr<Tracing> tracing;
  {
    std::lock_guard guard(task.kernel.tasks);
    tracing = task.tracing;
  }
  if (tracing && tracing->debug.watches()) tracing->debug.begin(reader(task));
}

bool watch_ends(Task& task, StubEvent& event, bool call) {
  std::shared_ptr<Tracing> tracing;
  bool wanted = true;
  {
    std::lock_guard guard(task.kernel.tasks);
    tracing = task.tracing;
    if (tracing) wanted = tracing->step;
  }
  const bool step = !call && event.kind == StubEvent::Fault && event.info.si_signo == SIGTRAP && event.info.si_code == TRAP_TRACE;
  if (!tracing) return !step && !call;  // its tracer has gone
  const bool hit = tracing->debug.watches() && tracing->debug.end(reader(task), task.registers().rip);
  if (!step && !call) return true;
  if (wanted) tracing->debug.tell_step();
  if (step && !wanted && hit) event.info.si_code = TRAP_HWBKPT;
  return wanted || hit;
}

}  // namespace caisson::kernel
