// Limits of processes where calls run into them: setrlimit(2), truncate(2), fallocate(2).
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "harness.h"

namespace {

int g_signals = 0;
void count_signal(int) { ++g_signals; }

}  // namespace

TEST(rlimits, files_that_grow) {
  signal(SIGXFSZ, count_signal);
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0600));
  OK(ftruncate(fd, 8192));
  const rlimit limit = {4096, 4096};
  OK(setrlimit(RLIMIT_FSIZE, &limit));
  FAILS(ftruncate(fd, 8193), EFBIG);
  EQ(g_signals, 1);
  FAILS(truncate("file", 10'000), EFBIG);
  EQ(g_signals, 2);
  FAILS(fallocate(fd, 0, 8000, 193), EFBIG);
  EQ(g_signals, 3);
  OK(fallocate(fd, 0, 8000, 192));  // it is that large
  OK(ftruncate(fd, 5000));          // it shrinks, if only to more than the limit
  OK(ftruncate(fd, 100));
  OK(ftruncate(fd, 4096));
  EQ(pwrite(fd, "abc", 3, 4094), 2);
  FAILS(pwrite(fd, "abc", 3, 4096), EFBIG);
  EQ(g_signals, 4);
}

TEST(rlimits, most_descriptors) {
  const rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
  FAILS(setrlimit(RLIMIT_NOFILE, &all), EPERM);  // with CAP_SYS_RESOURCE, too: fs.nr_open
}

// What nobody has set comes from who runs the container, and that is not "unlimited" for everything.
TEST(rlimits, inherited) {
  rlimit found;
  OK(getrlimit(RLIMIT_MSGQUEUE, &found));
  CHECK(found.rlim_cur != RLIM_INFINITY);
  OK(getrlimit(RLIMIT_RTPRIO, &found));
  CHECK(found.rlim_cur <= 99);
  OK(getrlimit(RLIMIT_NICE, &found));
  CHECK(found.rlim_cur <= 40);
}

TEST(rlimits, what_changes_the_node) {
  EQ(in_child([] {
       (void)!setuid(65534);  // who may not has no other capability of a root neither
       // A small kernel may have been built without.
       const auto refused = [](long result) { return result == -1 && (errno == EPERM || errno == ENOSYS); };
       CHECK(refused(syscall(SYS_acct, "file")));
       CHECK(refused(syscall(SYS_swapon, "file", 0)));
       CHECK(refused(syscall(SYS_swapoff, "file")));
     }),
     0);
}
