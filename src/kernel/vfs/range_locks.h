// RangeLocks: record locks of one file (fcntl(2)): byte ranges, shared or exclusive, of owners. Knows no tasks; who uses it locks it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <limits>
#include <optional>
#include <vector>

#include "kernel/errno.h"

namespace caisson::kernel {

class RangeLocks {
 public:
  static constexpr off_t kEnd = std::numeric_limits<off_t>::max();
  static constexpr size_t kMost = 8192;

  struct Held {
    off_t first = 0, last = kEnd;  // both inclusive
    bool exclusive = false;
    const void* owner = nullptr;
    pid_t pid = 0;  // for F_GETLK; -1: an open file description's
  };
  // The first lock of somebody else's that is in the way of `wanted`.
  std::optional<Held> conflict(const Held& wanted) const;
  // Takes the range, over whatever the owner holds of it already. ENOLCK: too many. The caller has looked for conflicts.
  Result<void> take(const Held& wanted);
  void release(const void* owner, off_t first, off_t last);
  bool empty() const { return held_.empty(); }
  const std::vector<Held>& all() const { return held_; }

 private:
  std::vector<Held> held_;  // by their first byte; ranges of one owner do not overlap
};

}  // namespace caisson::kernel
