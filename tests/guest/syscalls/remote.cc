// Other processes: process_vm_readv(2), kcmp(2); fchmodat2(2).
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <vector>

#include "harness.h"

namespace {

// Runs `look` with the pid of a child that has the value 42 in `shared` (a copy of its own), and asks the child at the end what it has.
int with_child(int* shared, const std::function<void(pid_t)>& look) {
  int go[2];
  OK(pipe(go));
  *shared = 1;
  int ready[2];
  OK(pipe(ready));
  const pid_t child = start_child([&] {
    close(go[1]);
    *shared = 42;
    EQ(write(ready[1], "x", 1), 1);
    char byte;
    EQ(read(go[0], &byte, 1), 0);
    _exit(*shared);
  });
  close(go[0]);
  char byte;
  EQ(read(ready[0], &byte, 1), 1);
  look(child);
  close(go[1]);
  return wait_child(child);
}

int kcmp(pid_t one, pid_t two, int type, long first = 0, long second = 0) {
  return static_cast<int>(syscall(SYS_kcmp, one, two, type, first, second));
}

}  // namespace

TEST(remote, reads_and_writes) {
  static int shared;
  EQ(with_child(&shared,
                [](pid_t child) {
                  int found = 0;
                  iovec local{&found, sizeof found}, remote{&shared, sizeof shared};
                  EQ(process_vm_readv(child, &local, 1, &remote, 1, 0), sizeof found);
                  EQ(found, 42);
                  EQ(shared, 1);
                  found = 77;
                  EQ(process_vm_writev(child, &local, 1, &remote, 1, 0), sizeof found);
                  EQ(shared, 1);
                }),
     77);
}

TEST(remote, pieces) {
  static char text[300'000];
  memset(text, 'a', sizeof text);
  std::vector<char> to(sizeof text);
  iovec local[2] = {{to.data(), 1000}, {to.data() + 1000, to.size() - 1000}};
  iovec remote[3] = {{text, 70'000}, {text + 70'000, 10}, {text + 70'010, sizeof text - 70'010}};
  EQ(process_vm_readv(getpid(), local, 2, remote, 3, 0), sizeof text);
  CHECK(memcmp(to.data(), text, sizeof text) == 0);
  // Shorter on one side.
  local[1].iov_len = 5;
  EQ(process_vm_readv(getpid(), local, 2, remote, 3, 0), 1005);
}

TEST(remote, wrong_memory) {
  char* pages = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  OK(munmap(pages + 4096, 4096));
  char to[8192];
  iovec local{to, sizeof to}, remote{pages, 8192}, nowhere{pages + 4096, 10};
  EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), 4096);
  FAILS(process_vm_readv(getpid(), &local, 1, &nowhere, 1, 0), EFAULT);
  FAILS(process_vm_readv(getpid(), &local, 1, &remote, 1, 1), EINVAL);
  FAILS(process_vm_readv(999'999, &local, 1, &remote, 1, 0), ESRCH);
  FAILS(process_vm_readv(getpid(), &local, 5000, &remote, 1, 0), EINVAL);
  EQ(process_vm_readv(getpid(), &local, 0, &remote, 1, 0), 0);
}

TEST(remote, of_another_user) {
  static int shared;
  with_child(&shared, [](pid_t child) {
    EQ(in_child([&] {
         OK(setuid(65534));
         int found = 0;
         iovec local{&found, sizeof found}, remote{&shared, sizeof shared};
         FAILS(process_vm_readv(child, &local, 1, &remote, 1, 0), EPERM);
         FAILS(kcmp(child, getpid(), KCMP_VM), EPERM);
       }),
       0);
  });
}

// A handler that runs meanwhile is no reason to copy less.
TEST(remote, signals_cut_nothing_short) {
  static volatile int ticks = 0;
  constexpr size_t kSize = 16 << 20;
  char* far = static_cast<char*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  CHECK(far != MAP_FAILED);
  memset(far, 7, kSize);
  std::vector<char> near(kSize, 1);
  signal(SIGALRM, [](int) { ticks = ticks + 1; });
  int unused = 0;
  with_child(&unused, [&](pid_t child) {
    const iovec local = {near.data(), kSize}, remote = {far, kSize};
    const itimerval often = {{0, 500}, {0, 500}}, never = {};
    OK(setitimer(ITIMER_REAL, &often, nullptr));
    for (int i = 0; i < 10; ++i) {
      EQ(process_vm_writev(child, &local, 1, &remote, 1, 0), kSize);
      EQ(process_vm_readv(child, &local, 1, &remote, 1, 0), kSize);
    }
    OK(setitimer(ITIMER_REAL, &never, nullptr));
  });
  CHECK(ticks > 0);
}

TEST(kcmp, what_is_shared) {
  static int unused;
  if (kcmp(getpid(), getpid(), KCMP_VM) < 0 && errno == ENOSYS) skip_test("this kernel has no kcmp");
  int fds[2];
  OK(pipe(fds));
  const int copy = OK(dup(fds[0]));
  EQ(kcmp(getpid(), getpid(), KCMP_FILE, fds[0], copy), 0);
  CHECK(kcmp(getpid(), getpid(), KCMP_FILE, fds[0], fds[1]) > 0);
  FAILS(kcmp(getpid(), getpid(), KCMP_FILE, fds[0], 999), EBADF);
  FAILS(kcmp(getpid(), getpid(), 99), EINVAL);
  EQ(kcmp(getpid(), getpid(), KCMP_IO), 0);
  EQ(kcmp(getpid(), getpid(), KCMP_SYSVSEM), 0);
  const int epoll = OK(epoll_create1(0));
  epoll_event wanted = {};
  OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[0], &wanted));
  kcmp_epoll_slot slot = {static_cast<unsigned>(epoll), static_cast<unsigned>(fds[0]), 0};
  EQ(kcmp(getpid(), getpid(), KCMP_EPOLL_TFD, copy, reinterpret_cast<unsigned long>(&slot)), 0);
  CHECK(kcmp(getpid(), getpid(), KCMP_EPOLL_TFD, fds[1], reinterpret_cast<unsigned long>(&slot)) > 0);
  slot.toff = 1;
  FAILS(kcmp(getpid(), getpid(), KCMP_EPOLL_TFD, copy, reinterpret_cast<unsigned long>(&slot)), ENOENT);
  slot.efd = static_cast<unsigned>(fds[1]);
  FAILS(kcmp(getpid(), getpid(), KCMP_EPOLL_TFD, copy, reinterpret_cast<unsigned long>(&slot)), EINVAL);
  FAILS(kcmp(getpid(), 999'999, KCMP_VM), ESRCH);
  with_child(&unused, [&](pid_t child) {
    EQ(kcmp(getpid(), child, KCMP_FILE, fds[0], fds[0]), 0);
    CHECK(kcmp(getpid(), child, KCMP_VM) > 0);
    CHECK(kcmp(getpid(), child, KCMP_FILES) > 0);
    const int one = kcmp(getpid(), child, KCMP_FS), two = kcmp(child, getpid(), KCMP_FS);
    EQ(one + two, 3);  // less and greater
  });
}

TEST(fchmodat2, flags) {
  constexpr int kNumber = 452;
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  OK(symlink("file", "link"));
  if (syscall(kNumber, AT_FDCWD, "link", 0600, 0) != 0 && errno == ENOSYS) skip_test("this kernel has no fchmodat2");
  struct stat found;
  OK(stat("file", &found));
  EQ(found.st_mode & 07777, 0600);
  FAILS(syscall(kNumber, AT_FDCWD, "link", 0644, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
  OK(syscall(kNumber, fd, "", 0640, AT_EMPTY_PATH));
  OK(stat("file", &found));
  EQ(found.st_mode & 07777, 0640);
  FAILS(syscall(kNumber, AT_FDCWD, "link", 0644, 0x4000), EINVAL);
}
