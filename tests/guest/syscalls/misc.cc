#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>

#include <vector>

#include "harness.h"

TEST(random, bytes) {
  unsigned char one[64] = {}, two[64] = {};
  EQ(getrandom(one, sizeof one, 0), sizeof one);
  EQ(getrandom(two, sizeof two, GRND_NONBLOCK), sizeof two);
  CHECK(memcmp(one, two, sizeof one) != 0);
  std::vector<char> much(1'000'000);
  EQ(getrandom(much.data(), much.size(), 0), much.size());
  FAILS(getrandom(one, 1, 0x100), EINVAL);
  FAILS(syscall(SYS_getrandom, 8, 10, 0), EFAULT);
}

TEST(sched, figures) {
  cpu_set_t set;
  CPU_ZERO(&set);
  OK(sched_getaffinity(0, sizeof set, &set));
  CHECK(CPU_COUNT(&set) >= 1);
  OK(sched_setaffinity(0, sizeof set, &set));
  FAILS(sched_getaffinity(0, 1, &set), EINVAL);
  FAILS(sched_getaffinity(999'999, sizeof set, &set), ESRCH);
  FAILS(sched_getaffinity(-1, sizeof set, &set), ESRCH);
  FAILS(sched_setaffinity(-1, sizeof set, &set), ESRCH);
  timespec slice;
  FAILS(sched_rr_get_interval(-1, &slice), EINVAL);
  EQ(sched_getscheduler(0), SCHED_OTHER);
  EQ(sched_get_priority_max(SCHED_FIFO), 99);
  EQ(sched_get_priority_min(SCHED_OTHER), 0);
  FAILS(sched_get_priority_max(77), EINVAL);
  OK(sched_yield());
  struct sysinfo info {};
  OK(sysinfo(&info));
  CHECK(info.totalram > 0 && info.uptime > 0);
  unsigned cpu = 0;
  OK(getcpu(&cpu, nullptr));
}

TEST(memory, mincore_of_what_is_not_mapped) {
  char* memory = static_cast<char*>(mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  CHECK(memory != MAP_FAILED);
  memset(memory, 1, 3 * 4096);
  unsigned char pages[3] = {0, 0, 0};
  OK(mincore(memory, 3 * 4096, pages));
  EQ(pages[0] & pages[1] & pages[2] & 1, 1);
  OK(munmap(memory + 4096, 4096));
  OK(mincore(memory, 4096, pages));
  OK(mincore(memory + 2 * 4096, 4096, pages));
  FAILS(mincore(memory, 3 * 4096, pages), ENOMEM);
  FAILS(mincore(memory + 4096, 4096, pages), ENOMEM);
  FAILS(mincore(memory + 1, 4096, pages), EINVAL);
}

TEST(memory, mlock2) {
  char* const memory = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  OK(mlock2(memory, 4096, 0));
  OK(mlock2(memory + 4096, 4096, MLOCK_ONFAULT));
  FAILS(mlock2(memory, 4096, 2), EINVAL);
  OK(munlock(memory, 8192));
  OK(munmap(memory, 8192));
  FAILS(mlock2(memory, 4096, 0), ENOMEM);
}

TEST(pidfd, polls_and_signals) {
  const pid_t child = start_child([] { pause(); });
  const int fd = OK(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  pollfd entry{fd, POLLIN, 0};
  EQ(poll(&entry, 1, 0), 0);
  OK(syscall(SYS_pidfd_send_signal, fd, 0, nullptr, 0));
  OK(syscall(SYS_pidfd_send_signal, fd, SIGTERM, nullptr, 0));
  EQ(poll(&entry, 1, 5000), 1);
  EQ(wait_child(child), 128 + SIGTERM);
  FAILS(syscall(SYS_pidfd_send_signal, fd, 0, nullptr, 0), ESRCH);
  FAILS(syscall(SYS_pidfd_open, 999'999, 0), ESRCH);
  FAILS(syscall(SYS_pidfd_open, -1, 0), EINVAL);
}

TEST(pidfd, takes_a_descriptor) {
  int fds[2], ready[2];
  OK(pipe(ready));
  const pid_t child = start_child([&] {
    OK(pipe(fds));
    EQ(dup2(fds[1], 100), 100);
    EQ(write(fds[1], "in there", 8), 8);
    EQ(dup2(fds[0], 101), 101);
    EQ(write(ready[1], "x", 1), 1);
    pause();
  });
  char text[10];
  EQ(read(ready[0], text, 1), 1);
  const int fd = OK(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  const int theirs = OK(static_cast<int>(syscall(SYS_pidfd_getfd, fd, 101, 0)));
  EQ(read(theirs, text, 10), 8);
  FAILS(syscall(SYS_pidfd_getfd, fd, 555, 0), EBADF);
  kill(child, SIGKILL);
  EQ(wait_child(child), 128 + SIGKILL);
}

namespace {
struct Shared {
  pthread_mutex_t mutex;
  pthread_cond_t condition;
  int value;
};
Shared* make_shared_memory(int mutex_type, bool robust = false) {
  auto* shared = static_cast<Shared*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  CHECK(shared != MAP_FAILED);
  pthread_mutexattr_t mutex;
  pthread_mutexattr_init(&mutex);
  pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_settype(&mutex, mutex_type);
  if (robust) pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST);
  EQ(pthread_mutex_init(&shared->mutex, &mutex), 0);
  pthread_condattr_t condition;
  pthread_condattr_init(&condition);
  pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
  EQ(pthread_cond_init(&shared->condition, &condition), 0);
  return shared;
}
}  // namespace

TEST(futex, between_processes) {
  Shared* shared = make_shared_memory(PTHREAD_MUTEX_NORMAL);
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i)
    children.push_back(start_child([&] {
      for (int n = 0; n < 5000; ++n) {
        pthread_mutex_lock(&shared->mutex);
        ++shared->value;
        pthread_mutex_unlock(&shared->mutex);
      }
    }));
  for (const pid_t child : children) EQ(wait_child(child), 0);
  EQ(shared->value, 20'000);
}

TEST(futex, condition_between_processes) {
  Shared* shared = make_shared_memory(PTHREAD_MUTEX_NORMAL);
  const pid_t child = start_child([&] {
    pthread_mutex_lock(&shared->mutex);
    while (shared->value != 1) pthread_cond_wait(&shared->condition, &shared->mutex);
    shared->value = 2;
    pthread_cond_signal(&shared->condition);
    pthread_mutex_unlock(&shared->mutex);
  });
  sleep_ms(20);
  pthread_mutex_lock(&shared->mutex);
  shared->value = 1;
  pthread_cond_signal(&shared->condition);
  while (shared->value != 2) pthread_cond_wait(&shared->condition, &shared->mutex);
  pthread_mutex_unlock(&shared->mutex);
  EQ(wait_child(child), 0);
}

TEST(futex, through_a_mapped_file) {
  const int fd = OK(open("shared", O_RDWR | O_CREAT, 0600));
  OK(ftruncate(fd, 4096));
  auto* word = static_cast<int*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  CHECK(word != MAP_FAILED);
  const pid_t child = start_child([&] {
    const int own = OK(open("shared", O_RDWR));
    auto* theirs = static_cast<int*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0));
    sleep_ms(30);
    __atomic_store_n(theirs, 1, __ATOMIC_SEQ_CST);
    OK(syscall(SYS_futex, theirs, 1 /* FUTEX_WAKE */, 10, nullptr, nullptr, 0));
  });
  const timespec time{5, 0};
  while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == 0)
    if (syscall(SYS_futex, word, 0 /* FUTEX_WAIT */, 0, &time, nullptr, 0) != 0) CHECK(errno == EAGAIN);
  EQ(wait_child(child), 0);
}

TEST(futex, timeouts) {
  int word = 0;
  const timespec time{0, 40'000'000};
  const int64_t before = now_ms();
  FAILS(syscall(SYS_futex, &word, 0 | 128, 0, &time, nullptr, 0), ETIMEDOUT);
  CHECK(now_ms() - before >= 39);
  FAILS(syscall(SYS_futex, &word, 0 | 128, 1, &time, nullptr, 0), EAGAIN);
}

TEST(futex, robust_mutex) {
  Shared* shared = make_shared_memory(PTHREAD_MUTEX_NORMAL, true);
  EQ(in_child([&] { pthread_mutex_lock(&shared->mutex); }), 0);
  EQ(pthread_mutex_lock(&shared->mutex), EOWNERDEAD);
  EQ(pthread_mutex_consistent(&shared->mutex), 0);
  EQ(pthread_mutex_unlock(&shared->mutex), 0);
  const pid_t child = start_child([&] {
    pthread_mutex_lock(&shared->mutex);
    sleep_ms(50);
    raise(SIGKILL);
  });
  sleep_ms(20);
  EQ(pthread_mutex_lock(&shared->mutex), EOWNERDEAD);
  EQ(wait_child(child), 128 + SIGKILL);
}

TEST(files, direct) {
  // The host looks at addresses, too: a database's pages, of any number, past the page cache and back.
  const int fd = open("direct", O_CREAT | O_RDWR | O_DIRECT, 0600);
  if (fd == -1 && errno == EINVAL) skip_test("the file system knows no O_DIRECT");
  OK(fd);
  constexpr size_t kMost = 1 << 20;
  auto* out = static_cast<char*>(aligned_alloc(4096, kMost));
  auto* in = static_cast<char*>(aligned_alloc(4096, kMost));
  for (size_t i = 0; i < kMost; ++i) out[i] = static_cast<char>(i * 7 + i / 4096);
  for (const size_t size : {4096ul, 16384ul, 20480ul, 65536ul, 262144ul, 266240ul, kMost}) {
    EQ(pwrite(fd, out, size, 4096), static_cast<ssize_t>(size));
    memset(in, 0, size);
    EQ(pread(fd, in, size, 4096), static_cast<ssize_t>(size));
    CHECK(memcmp(in, out, size) == 0);
    const iovec parts[2] = {{in, 4096}, {in + 4096, size - 4096}};
    EQ(pwritev(fd, parts, 2, 0), static_cast<ssize_t>(size));
    EQ(preadv(fd, parts, 2, 0), static_cast<ssize_t>(size));
    CHECK(memcmp(in, out, size) == 0);
  }
  // The end of the file cuts the last read short.
  OK(ftruncate(fd, 5000));
  EQ(pread(fd, in, 16384, 0), 5000);
  // What a machine shares with the node (virtiofs) is the node's page cache, whatever was asked for.
  struct statfs where;
  OK(fstatfs(fd, &where));
  const bool aligned = where.f_type != 0x65735546;  // FUSE_SUPER_MAGIC
  if (aligned) FAILS(pwrite(fd, out, 4096, 100), EINVAL);
  // What is no whole block is written without (dd's last piece).
  OK(fcntl(fd, F_SETFL, 0));
  EQ(pwrite(fd, out, 511, 100), 511);
  OK(fcntl(fd, F_SETFL, O_DIRECT));
  if (aligned) FAILS(pwrite(fd, out, 4096, 100), EINVAL);
}

TEST(files, only_a_folder) {
  const int fd = OK(open("file", O_CREAT | O_WRONLY, 0600));
  OK(symlink("file", "link"));
  OK(mkdir("folder", 0700));
  OK(symlink("folder", "to_folder"));
  FAILS(open("file", O_PATH | O_DIRECTORY), ENOTDIR);
  FAILS(open("file", O_RDONLY | O_DIRECTORY), ENOTDIR);
  FAILS(open("link", O_PATH | O_DIRECTORY), ENOTDIR);
  FAILS(open("to_folder", O_PATH | O_DIRECTORY | O_NOFOLLOW), ENOTDIR);
  FAILS(open("to_folder", O_RDONLY | O_DIRECTORY | O_NOFOLLOW), ENOTDIR);
  FAILS(open("to_folder", O_RDONLY | O_NOFOLLOW), ELOOP);
  OK(open("to_folder", O_PATH | O_DIRECTORY));
  // Writing out a part of a file; what is no file has none.
  EQ(write(fd, "text", 4), 4);
  OK(sync_file_range(fd, 0, 4, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
  FAILS(sync_file_range(fd, 0, 4, 8), EINVAL);
  FAILS(sync_file_range(fd, -1, 4, 0), EINVAL);
  int fds[2];
  OK(pipe(fds));
  FAILS(sync_file_range(fds[1], 0, 4, 0), ESPIPE);
  FAILS(sync_file_range(-1, 0, 4, 0), EBADF);
}
