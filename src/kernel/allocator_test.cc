#include "kernel/allocator.h"

#include <gtest/gtest.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <memory>
#include <thread>
#include <vector>

#include "kernel/task/task.h"

namespace caisson::kernel {
namespace {

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Pages of this process that are in memory and its own.
long own_pages() {
  long size = 0, resident = 0, shared = 0;
  FILE* file = fopen("/proc/self/statm", "re");
  EXPECT_EQ(fscanf(file, "%ld %ld %ld", &size, &resident, &shared), 3);
  fclose(file);
  return resident - shared;
}

// What was freed below something that is still there is not the allocator's for ever, in the area of a thread neither.
TEST(Allocator, FreedMemoryIsReturned) {
  constexpr size_t kPiece = 16 * 1024, kPieces = 2048;
  std::unique_ptr<char[]> last;
  long full = 0;
  std::thread([&] {
    std::vector<std::unique_ptr<char[]>> pieces;
    for (size_t i = 0; i < kPieces; ++i) {
      pieces.push_back(std::make_unique<char[]>(kPiece));
      memset(pieces.back().get(), 1, kPiece);
    }
    last = std::make_unique<char[]>(kPiece);
    full = own_pages();
  }).join();
  const long less = full - static_cast<long>(kPiece * kPieces / 2 / static_cast<size_t>(getpagesize()));
  // Other threads of this program may have done it within the last second.
  for (const int64_t until = monotonic_now() + 5'000'000'000; own_pages() >= less && monotonic_now() < until; usleep(10'000))
    return_freed_memory();
  EXPECT_LT(own_pages(), less);
}
#endif

}  // namespace
}  // namespace caisson::kernel
