// Buffers and names of calls that are made often from one place: the application kernel's stubs bring them along then (PassedMemory), and
// nothing about bad, shared, overlapping or split memory may change.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <vector>

#include "harness.h"

namespace {

constexpr int kOften = 200;
constexpr size_t kPage = 4096;

// One place for all calls, so that it is a jump after the first test's warm-up.
[[gnu::noinline]] long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  return syscall(number, a, b, c, d, e);
}
template <typename T>
long at(T* pointer) {
  return reinterpret_cast<long>(pointer);
}
void warm_up() {
  for (int i = 0; i < kOften; ++i) call(SYS_getpgid, 0);
}

// Two pages; behind them there is nothing.
char* two_pages() {
  char* pages = static_cast<char*>(mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  CHECK(pages != MAP_FAILED);
  OK(munmap(pages + 2 * kPage, kPage));
  return pages;
}
int file_of(size_t size) {
  const int fd = OK(open("data", O_RDWR | O_CREAT | O_TRUNC, 0600));
  std::vector<char> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>('a' + i % 26);
  EQ(write(fd, bytes.data(), size), size);
  return fd;
}

}  // namespace

TEST(passed, reads_of_all_sizes) {
  warm_up();
  const int fd = file_of(10000);
  char* pages = two_pages();
  for (const size_t size : {1, 7, 100, 3000, 4095, 4096, 4097, 8192})
    for (const size_t offset : {0, 1, 4000, 4095}) {
      if (offset + size > 2 * kPage) continue;
      memset(pages, '.', 2 * kPage);
      EQ(call(SYS_pread64, fd, at(pages + offset), static_cast<long>(size), 3), size);
      for (size_t i = 0; i < size; ++i) EQ(pages[offset + i], 'a' + (i + 3) % 26);
      CHECK(offset == 0 || pages[offset - 1] == '.');
      CHECK(offset + size == 2 * kPage || pages[offset + size] == '.');
    }
  // Shorter than what was asked for, behind the end, and into what ends sooner.
  memset(pages, '.', 2 * kPage);
  EQ(call(SYS_pread64, fd, at(pages), 100, 9990), 10);
  EQ(pages[10], '.');
  EQ(call(SYS_pread64, fd, at(pages), 100, 20000), 0);
  EQ(pages[0], 'a' + 9990 % 26);
}

TEST(passed, writes_of_all_sizes) {
  warm_up();
  char* pages = two_pages();
  for (size_t i = 0; i < 2 * kPage; ++i) pages[i] = static_cast<char>(i % 251);
  const int fd = OK(open("out", O_RDWR | O_CREAT | O_TRUNC, 0600));
  char back[2 * kPage];
  for (const size_t size : {1, 4095, 4096, 4097, 8000})
    for (const size_t offset : {0, 1, 100}) {
      EQ(call(SYS_pwrite64, fd, at(pages + offset), static_cast<long>(size), 0), size);
      EQ(pread(fd, back, size, 0), size);
      CHECK(memcmp(back, pages + offset, size) == 0);
    }
  // What is written while the guest changes it is one of both: here it is changed between calls only.
  for (int i = 0; i < 50; ++i) {
    pages[0] = static_cast<char>(i);
    EQ(call(SYS_pwrite64, fd, at(pages), 1, 0), 1);
    EQ(pread(fd, back, 1, 0), 1);
    EQ(back[0], i);
  }
}

TEST(passed, bad_addresses) {
  warm_up();
  const int fd = file_of(5000);
  char* pages = two_pages();
  struct stat info {};
  errno = 0;
  FAILS(call(SYS_pread64, fd, 8, 100, 0), EFAULT);
  FAILS(call(SYS_pread64, fd, -1, 100, 0), EFAULT);
  FAILS(call(SYS_pwrite64, fd, 8, 100, 0), EFAULT);
  FAILS(call(SYS_pwrite64, fd, at(pages + 2 * kPage), 1, 0), EFAULT);
  FAILS(call(SYS_pread64, fd, at(pages + 2 * kPage), 1, 0), EFAULT);
  FAILS(call(SYS_fstat, fd, at(pages + 2 * kPage - 100)), EFAULT);
  FAILS(call(SYS_stat, at(pages + 2 * kPage), at(&info)), EFAULT);
  FAILS(call(SYS_stat, 1, at(&info)), EFAULT);
  FAILS(call(SYS_stat, at("data"), 1), EFAULT);
  // Up to the last byte of what is there.
  memcpy(pages + 2 * kPage - 5, "data", 5);
  OK(call(SYS_stat, at(pages + 2 * kPage - 5), at(pages + 100)));
  EQ(reinterpret_cast<struct stat*>(pages + 100)->st_size, 5000);
  memset(pages + 2 * kPage - 4, 'x', 4);
  FAILS(call(SYS_stat, at(pages + 2 * kPage - 4), at(&info)), EFAULT);
  // A name that goes on in the next page.
  memset(pages + kPage - 400, '/', 400);
  pages[kPage - 400] = '.';
  memcpy(pages + kPage, "data", 5);
  OK(call(SYS_stat, at(pages + kPage - 400), at(&info)));
  EQ(info.st_size, 5000);
}

TEST(passed, memory_that_may_not_be_written) {
  warm_up();
  const int fd = file_of(5000);
  char* pages = two_pages();
  pages[0] = 'x';
  OK(mprotect(pages, kPage, PROT_READ));
  FAILS(call(SYS_pread64, fd, at(pages), 10, 0), EFAULT);
  FAILS(call(SYS_fstat, fd, at(pages)), EFAULT);
  EQ(pages[0], 'x');
  EQ(call(SYS_pwrite64, fd, at(pages), 1, 0), 1);
  OK(mprotect(pages, kPage, PROT_NONE));
  FAILS(call(SYS_pwrite64, fd, at(pages), 1, 0), EFAULT);
  // The first page may not, the second may: and the other way round.
  FAILS(call(SYS_pread64, fd, at(pages + kPage - 10), 20, 0), EFAULT);
  OK(mprotect(pages, kPage, PROT_READ | PROT_WRITE));
  OK(mprotect(pages + kPage, kPage, PROT_READ));
  const long got = call(SYS_pread64, fd, at(pages + kPage - 10), 20, 0);
  CHECK(got == 10 || (got == -1 && errno == EFAULT));
  // Behind a file's end.
  const int empty = OK(open("empty", O_RDWR | O_CREAT | O_TRUNC, 0600));
  char* mapped = static_cast<char*>(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, empty, 0));
  FAILS(call(SYS_pread64, fd, at(mapped), 10, 0), EFAULT);
  FAILS(call(SYS_pwrite64, fd, at(mapped), 10, 0), EFAULT);
}

TEST(passed, vectors) {
  warm_up();
  const int fd = OK(open("out", O_RDWR | O_CREAT | O_TRUNC, 0600));
  char back[100] = {}, one[] = "one", two[] = "two", three[] = "three", four[] = "four";
  iovec pieces[] = {{one, 3}, {nullptr, 0}, {two, 3}, {three, 5}, {four, 4}};
  EQ(call(SYS_writev, fd, at(pieces), 5), 15);
  EQ(pread(fd, back, sizeof back, 0), 15);
  CHECK(memcmp(back, "onetwothreefour", 15) == 0);
  memset(back, 0, sizeof back);
  OK(lseek(fd, 0, SEEK_SET));
  iovec into[] = {{back, 2}, {back + 50, 4}, {back + 10, 20}};
  EQ(call(SYS_readv, fd, at(into), 3), 15);
  CHECK(memcmp(back, "on", 3) == 0 && memcmp(back + 50, "etwo", 5) == 0 && memcmp(back + 10, "threefour", 10) == 0);
  FAILS(call(SYS_writev, fd, 1, 2), EFAULT);
  pieces[0].iov_base = reinterpret_cast<void*>(1);
  FAILS(call(SYS_writev, fd, at(pieces), 1), EFAULT);
  FAILS(call(SYS_writev, fd, at(pieces), -1), EINVAL);
}

TEST(passed, in_and_out_overlap) {
  warm_up();
  OK(symlink("target-of-it", "link"));
  char name[64] = "link";
  EQ(call(SYS_readlink, at(name), at(name), sizeof name), 12);
  CHECK(memcmp(name, "target-of-it", 12) == 0);
  int fds[2];
  OK(pipe(fds));
  pollfd entries[] = {{fds[0], POLLIN, 0x55}, {fds[1], POLLOUT, 0x55}, {-1, POLLIN, 0x55}};
  EQ(call(SYS_poll, at(entries), 3, 0), 1);
  EQ(entries[0].revents, 0);
  EQ(entries[1].revents, POLLOUT);
  EQ(entries[2].revents, 0);
  EQ(entries[1].events, POLLOUT);
  // The signal mask, old and new in one place.
  uint64_t mask = 1ULL << (SIGUSR1 - 1);
  OK(call(SYS_rt_sigprocmask, SIG_SETMASK, at(&mask), at(&mask), 8));
  EQ(mask, 0);
  OK(call(SYS_rt_sigprocmask, SIG_SETMASK, at(&mask), at(&mask), 8));
  EQ(mask, 1ULL << (SIGUSR1 - 1));
  char there[200];
  CHECK(call(SYS_getcwd, at(there), sizeof there) > 1 && there[0] == '/');
  FAILS(call(SYS_getcwd, at(there), 1), ERANGE);
}

TEST(passed, events) {
  warm_up();
  const int epoll = OK(epoll_create1(EPOLL_CLOEXEC));
  int fds[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
  epoll_event event{EPOLLIN, {.u64 = 0x1234567890}}, found[64] = {};
  OK(call(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, fds[0], at(&event)));
  EQ(call(SYS_epoll_wait, epoll, at(found), 64, 0), 0);
  EQ(call(SYS_sendto, fds[1], at("hello"), 5, 0), 5);
  EQ(call(SYS_epoll_wait, epoll, at(found), 64, 1000), 1);
  EQ(found[0].data.u64, 0x1234567890);
  FAILS(call(SYS_epoll_wait, epoll, 8, 64, 0), EFAULT);
  char bytes[16384];
  EQ(call(SYS_recvfrom, fds[0], at(bytes), sizeof bytes, 0), 5);
  CHECK(memcmp(bytes, "hello", 5) == 0);
  // What a handler that interrupts a call finds, and what the call then brings.
  static int pipes[2];
  OK(pipe(pipes));
  struct sigaction action {};
  action.sa_handler = [](int) { (void)!write(pipes[1], "from the handler", 16); };
  action.sa_flags = SA_RESTART;
  OK(sigaction(SIGALRM, &action, nullptr));
  alarm(1);
  EQ(call(SYS_read, pipes[0], at(bytes), sizeof bytes), 16);
  CHECK(memcmp(bytes, "from the handler", 16) == 0);
}
