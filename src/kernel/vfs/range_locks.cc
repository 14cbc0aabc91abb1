#include "kernel/vfs/range_locks.h"

#include <algorithm>

namespace caisson::kernel {

std::optional<RangeLocks::Held> RangeLocks::conflict(const Held& wanted) const {
  for (const Held& held : held_) {
    if (held.owner == wanted.owner || held.last < wanted.first || held.first > wanted.last) continue;
    if (held.exclusive || wanted.exclusive) return held;
  }
  return std::nullopt;
}

void RangeLocks::release(const void* owner, off_t first, off_t last) {
  const auto touched = [&](const Held& held) { return held.owner == owner && held.last >= first && held.first <= last; };
  if (std::none_of(held_.begin(), held_.end(), touched)) return;
  std::vector<Held> kept;
  kept.reserve(held_.size() + 1);
  for (const Held& held : held_) {
    if (!touched(held)) {
      kept.push_back(held);
      continue;
    }
    // What sticks out on either side stays.
    if (held.first < first) {
      kept.push_back(held);
      kept.back().last = first - 1;
    }
    if (held.last > last) {
      kept.push_back(held);
      kept.back().first = last + 1;
    }
  }
  std::sort(kept.begin(), kept.end(), [](const Held& a, const Held& b) { return a.first < b.first; });
  held_ = std::move(kept);
}

Result<void> RangeLocks::take(const Held& wanted) {
  // Releasing may split one lock into two, and the new one is added.
  if (held_.size() + 2 > kMost) return Errno(ENOLCK);
  release(wanted.owner, wanted.first, wanted.last);
  // Neighbours of the same kind become one, so that a file that is locked piece by piece costs one entry.
  Held merged = wanted;
  std::erase_if(held_, [&](const Held& held) {
    if (held.owner != wanted.owner || held.exclusive != wanted.exclusive) return false;
    const bool before = held.last != kEnd && held.last + 1 == merged.first;
    const bool after = merged.last != kEnd && merged.last + 1 == held.first;
    if (before) merged.first = held.first;
    if (after) merged.last = held.last;
    return before || after;
  });
  const auto place = std::upper_bound(held_.begin(), held_.end(), merged, [](const Held& a, const Held& b) { return a.first < b.first; });
  held_.insert(place, merged);
  return {};
}

}  // namespace caisson::kernel
