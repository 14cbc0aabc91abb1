// Debug registers of a traced task (ptrace(2), PTRACE_POKEUSER of struct user's u_debugreg; Intel SDM volume 3, "Debug registers"): what
// debuggers set watchpoints with.
//
// The kernel process cannot have the processor's own set: the host gives those to tracers only. So a task with watchpoints goes step by
// step, and what it watches is compared after each instruction: some 10 us an instruction, as slow as a debugger's own watchpoints in
// software. Told are changes; accesses that change nothing cannot be seen, so they cannot be asked for (EINVAL).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "kernel/errno.h"

namespace caisson::kernel {

class Task;
struct StubEvent;

// Of one Tracing; guarded as that is, but for what the task's own thread remembers while it runs.
class DebugRegisters {
 public:
  static constexpr size_t kCount = 8;
  uint64_t get(size_t number) const;
  // EINVAL: nothing that can be watched, or an address that is not aligned. EIO: registers 4 and 5.
  Result<void> set(size_t number, uint64_t value);
  bool watches() const { return (control_ & kEnabled) != 0; }

  // The tracer may have changed what is watched.
  void forget() { known_ = false; }
  // Reads `size` bytes of the task's memory into the word; false: it cannot be read.
  using Read = std::function<bool(uint64_t address, uint64_t& word, size_t size)>;
  // Before an instruction, and after it: whether something has changed, or what is at `rip` is to be stopped at; status() says which.
  void begin(const Read& read);
  bool end(const Read& read, uint64_t rip);
  void tell_step() { status_ |= kStep; }

 private:
  static constexpr uint64_t kEnabled = 0xff, kStep = 1 << 14;
  static constexpr size_t kPlaces = 4;
  struct Place {
    bool enabled = false;
    unsigned kind = 0;  // 0: executed, 1: written, 3: read or written
    size_t size = 1;
  };
  static Place place(uint64_t control, size_t number);
  Result<void> check(uint64_t control) const;

  uint64_t addresses_[kPlaces] = {}, status_ = 0xffff0ff0, control_ = 0;
  uint64_t before_[kPlaces] = {};
  bool known_ = false;
};

// A task that goes step by step: before an instruction, and after what ended it; call: a system call, which has been made. False: its
// tracer has nothing to be told of it.
void watch_begins(Task& task);
bool watch_ends(Task& task, StubEvent& event, bool call);

}  // namespace caisson::kernel
