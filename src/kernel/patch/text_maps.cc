#include "kernel/patch/text_maps.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#include <algorithm>
#include <functional>

#include "kernel/stub/layout.h"

namespace caisson::kernel {
namespace {

struct Line {
  uint64_t start = 0, end = 0, inode = 0;
  char flags[5] = {};
};

// Calls `each` for one mapping after the other, by ascending addresses, until it says false.
void for_each(const std::string& maps, const std::function<bool(const Line&)>& each) {
  for (size_t at = 0; at < maps.size();) {
    const size_t end = std::min(maps.find('\n', at), maps.size());
    Line line;
    // "start-end rwxp offset major:minor inode", fewer than 128 characters before the name
    const std::string text = maps.substr(at, std::min<size_t>(end - at, 128));
    at = end + 1;
    if (sscanf(text.c_str(), "%" SCNx64 "-%" SCNx64 " %4s %*x %*x:%*x %" SCNu64, &line.start, &line.end, line.flags, &line.inode) != 4)
      continue;
    if (!each(line)) return;
  }
}

Line line_at(const std::string& maps, uint64_t address) {
  Line found;
  for_each(maps, [&](const Line& line) {
    if (address >= line.start && address < line.end) found = line;
    return line.end <= address;
  });
  return found;
}

bool is_private_file(const Line& line) { return line.end != 0 && line.inode != 0 && line.flags[3] == 'p'; }

constexpr uint64_t kLowest = 0x10000, kStep = 0x10000, kMargin = 1 << 20, kFar = 0x70000000, kTop = 0x7ffffffe0000;
uint64_t down(uint64_t address) { return address & ~(kStep - 1); }

// In the gap [from, to), no farther from `near` than kFar; 0: no room.
uint64_t place_in(uint64_t from, uint64_t to, uint64_t near, uint64_t size) {
  if (to <= from || to - from < size + 2 * kStep) return 0;
  const uint64_t margin = std::min((to - from - size) / 2, kMargin);
  from += margin;
  to -= margin;
  uint64_t at = near > kFar ? near - kFar : 0;
  at = std::clamp(down(at), down(from + kStep - 1), down(to - size));
  if (at < from || at + size > to) return 0;
  return at + kFar >= near && at <= near + kFar ? at : 0;
}

}  // namespace

bool is_private_text(const std::string& maps, uint64_t start, uint64_t end) {
  const Line line = line_at(maps, start);
  return is_private_file(line) && end <= line.end && line.flags[0] == 'r' && line.flags[1] == '-' && line.flags[2] == 'x';
}

bool is_of_file(const std::string& maps, uint64_t address) { return is_private_file(line_at(maps, address)); }

uint64_t protection_at(const std::string& maps, uint64_t address) {
  const Line line = line_at(maps, address);
  return (line.flags[0] == 'r' ? PROT_READ : 0U) | (line.flags[1] == 'w' ? PROT_WRITE : 0U) | (line.flags[2] == 'x' ? PROT_EXEC : 0U);
}

uint64_t place_near(const std::string& maps, uint64_t near, uint64_t size) {
  // The first gap that will do is the lowest. The window is no gap, whatever of it is mapped.
  uint64_t found = 0, end = kLowest;
  const auto look = [&](uint64_t to) {
    const uint64_t from = end >= STUB_WINDOW && end < STUB_WINDOW_END ? STUB_WINDOW_END : end;
    if (found == 0) found = place_in(from, to > STUB_WINDOW && to <= STUB_WINDOW_END ? STUB_WINDOW : to, near, size);
  };
  for_each(maps, [&](const Line& line) {
    look(line.start);
    end = std::max(end, line.end);
    return found == 0;
  });
  if (found == 0) look(kTop);
  return found;
}

}  // namespace caisson::kernel
