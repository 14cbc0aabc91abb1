// Limits of a process that hold for its memory and its CPU time: setrlimit(2).
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "harness.h"

namespace {

constexpr rlim_t kMiB = 1 << 20;

void limit(int resource, rlim_t soft) {
  rlimit now;
  OK(getrlimit(static_cast<__rlimit_resource>(resource), &now));
  now.rlim_cur = soft;
  OK(setrlimit(static_cast<__rlimit_resource>(resource), &now));
}

bool can_map(size_t bytes) {
  return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

}  // namespace

TEST(limits, a_process_without_room_may_fork) {
  limit(RLIMIT_AS, kMiB);
  CHECK(!can_map(kMiB));
  EQ(in_child([] {
       CHECK(!can_map(kMiB));
       EQ(in_child([] { CHECK(!can_map(kMiB)); }), 0);
       limit(RLIMIT_AS, RLIM_INFINITY);
       CHECK(can_map(kMiB));
     }),
     0);
}

TEST(limits, address_space_counts_what_is_mapped) {
  limit(RLIMIT_AS, 256 * kMiB);
  CHECK(can_map(128 * kMiB));
  CHECK(!can_map(256 * kMiB));
}

TEST(limits, stay_after_exec) {
  const char* which = getenv("CAISSON_TEST_LIMITED");
  if (which == nullptr) {
    limit(RLIMIT_AS, 256 * kMiB);
    limit(RLIMIT_CPU, 1);
    OK(setenv("CAISSON_TEST_LIMITED", "1", 1));
    EQ(in_child([] { execl("/proc/self/exe", "syscall_tests", ".", "limits.stay_after_exec", nullptr); }), 0);
    return;
  }
  CHECK(!can_map(256 * kMiB));
  // SIGXCPU ends it, as soon as the machine has had a second for it.
  constexpr int kBusy = 9;
  int status = 0;
  const pid_t child = start_child([] {
    rusage used{};
    for (const int64_t most = now_ms() + 10'000; now_ms() < most;) continue;
    OK(getrusage(RUSAGE_SELF, &used));
    if (used.ru_utime.tv_sec + used.ru_stime.tv_sec < 2) _exit(kBusy);
  });
  EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kBusy) return;
  CHECK(WIFSIGNALED(status));
  EQ(WTERMSIG(status), SIGXCPU);
}
