#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <vector>

#include "harness.h"

namespace {
struct Pipe {
  int in, out;
  explicit Pipe(int flags = 0) {
    int fds[2];
    OK(pipe2(fds, flags));
    in = fds[0];
    out = fds[1];
  }
};
std::string read_some(int fd, size_t size) {
  std::string text(size, '\0');
  const ssize_t got = OK(read(fd, text.data(), size));
  text.resize(static_cast<size_t>(got));
  return text;
}
volatile sig_atomic_t g_signals = 0;
void count_signal(int) { g_signals = g_signals + 1; }
}  // namespace

TEST(pipe, bytes_in_order) {
  Pipe p;
  EQ(write(p.out, "hello ", 6), 6);
  EQ(write(p.out, "world", 5), 5);
  CHECK(read_some(p.in, 3) == "hel");
  CHECK(read_some(p.in, 100) == "lo world");
  int bytes = -1;
  EQ(write(p.out, "xy", 2), 2);
  OK(ioctl(p.in, FIONREAD, &bytes));
  EQ(bytes, 2);
}

TEST(pipe, ends) {
  Pipe p;
  EQ(write(p.out, "a", 1), 1);
  close(p.out);
  CHECK(read_some(p.in, 10) == "a");
  EQ(read_some(p.in, 10).size(), 0);
  Pipe q;
  close(q.in);
  signal(SIGPIPE, SIG_IGN);
  FAILS(write(q.out, "a", 1), EPIPE);
  signal(SIGPIPE, SIG_DFL);
  EQ(in_child([&] { (void)!write(q.out, "a", 1); }), 128 + SIGPIPE);
}

TEST(pipe, wrong_arguments) {
  int fds[2];
  FAILS(pipe2(fds, 0x12345678), EINVAL);
  FAILS(pipe(reinterpret_cast<int*>(8)), EFAULT);
  Pipe p;
  FAILS(read(p.out, fds, 1), EBADF);
  FAILS(write(p.in, fds, 1), EBADF);
  FAILS(lseek(p.in, 0, SEEK_SET), ESPIPE);
  EQ(write(p.out, "abc", 3), 3);
  FAILS(read(p.in, reinterpret_cast<void*>(8), 3), EFAULT);
  CHECK(read_some(p.in, 3) == "abc");
  FAILS(write(p.out, reinterpret_cast<void*>(8), 3), EFAULT);
}

TEST(pipe, nonblocking) {
  Pipe p(O_NONBLOCK);
  char byte;
  FAILS(read(p.in, &byte, 1), EAGAIN);
  std::vector<char> much(1 << 20, 'x');
  EQ(write(p.out, much.data(), much.size()), 65536);
  FAILS(write(p.out, "a", 1), EAGAIN);
  EQ(read(p.in, much.data(), 4096), 4096);
  EQ(write(p.out, much.data(), 4096), 4096);
  FAILS(write(p.out, "a", 1), EAGAIN);
}

TEST(pipe, blocks_until_written) {
  Pipe p;
  const pid_t child = start_child([&] {
    sleep_ms(50);
    EQ(write(p.out, "late", 4), 4);
  });
  const int64_t before = now_ms();
  CHECK(read_some(p.in, 10) == "late");
  CHECK(now_ms() - before >= 30);
  EQ(wait_child(child), 0);
}

TEST(pipe, large_write_waits_for_reader) {
  Pipe p;
  const size_t size = 3'000'000;
  const pid_t child = start_child([&] {
    std::vector<unsigned char> data(size);
    for (size_t i = 0; i < size; ++i) data[i] = static_cast<unsigned char>(i * 7 / 3);
    EQ(write(p.out, data.data(), size), size);
  });
  close(p.out);
  size_t done = 0;
  std::vector<unsigned char> piece(100'000);
  for (;;) {
    const ssize_t got = OK(read(p.in, piece.data(), piece.size()));
    if (got == 0) break;
    for (ssize_t i = 0; i < got; ++i, ++done) CHECK(piece[i] == static_cast<unsigned char>(done * 7 / 3));
  }
  EQ(done, size);
  EQ(wait_child(child), 0);
}

TEST(pipe, small_writes_are_atomic) {
  Pipe p;
  std::vector<pid_t> children;
  for (char letter = 'a'; letter < 'e'; ++letter)
    children.push_back(start_child([&] {
      const std::string block(1000, letter);
      for (int i = 0; i < 100; ++i) EQ(write(p.out, block.data(), block.size()), 1000);
    }));
  close(p.out);
  std::string all;
  for (std::string piece; !(piece = read_some(p.in, 50'000)).empty();) all += piece;
  EQ(all.size(), 400'000);
  for (size_t i = 0; i < all.size(); i += 1000)
    for (size_t j = 1; j < 1000; ++j) CHECK(all[i + j] == all[i]);
  for (const pid_t child : children) EQ(wait_child(child), 0);
}

TEST(pipe, packets) {
  Pipe p(O_DIRECT);
  EQ(write(p.out, "one", 3), 3);
  EQ(write(p.out, "twoo", 4), 4);
  CHECK(read_some(p.in, 100) == "one");
  CHECK(read_some(p.in, 2) == "tw");
  EQ(write(p.out, "x", 1), 1);
  CHECK(read_some(p.in, 100) == "x");
}

TEST(pipe, size) {
  Pipe p(O_NONBLOCK);
  EQ(fcntl(p.in, F_GETPIPE_SZ), 65536);
  EQ(fcntl(p.out, F_SETPIPE_SZ, 100'000), 131072);
  EQ(fcntl(p.in, F_GETPIPE_SZ), 131072);
  std::vector<char> much(200'000);
  EQ(write(p.out, much.data(), much.size()), 131072);
  FAILS(fcntl(p.out, F_SETPIPE_SZ, 4096), EBUSY);
}

TEST(pipe, poll) {
  Pipe p(O_NONBLOCK);
  pollfd fds[2] = {{p.in, POLLIN, 0}, {p.out, POLLOUT, 0}};
  EQ(poll(fds, 2, 0), 1);
  EQ(fds[0].revents, 0);
  EQ(fds[1].revents, POLLOUT);
  std::vector<char> much(1 << 20);
  OK(write(p.out, much.data(), much.size()));
  EQ(poll(fds, 2, 0), 1);
  EQ(fds[0].revents, POLLIN);
  close(p.in);
  EQ(poll(fds + 1, 1, 0), 1);
  CHECK((fds[1].revents & POLLERR) != 0);
  Pipe q;
  close(q.out);
  pollfd end{q.in, POLLIN, 0};
  EQ(poll(&end, 1, -1), 1);
  EQ(end.revents, POLLHUP);
}

TEST(pipe, interrupted_by_a_signal) {
  Pipe p;
  struct sigaction action {};
  action.sa_handler = count_signal;
  sigaction(SIGUSR1, &action, nullptr);
  const pid_t self = getpid();
  const pid_t child = start_child([&] {
    sleep_ms(50);
    kill(self, SIGUSR1);
  });
  char byte;
  FAILS(read(p.in, &byte, 1), EINTR);
  EQ(g_signals, 1);
  EQ(wait_child(child), 0);
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  const pid_t other = start_child([&] {
    sleep_ms(50);
    kill(self, SIGUSR1);
    sleep_ms(50);
    EQ(write(p.out, "z", 1), 1);
  });
  EQ(read(p.in, &byte, 1), 1);
  EQ(g_signals, 2);
  EQ(wait_child(other), 0);
}

// Of many that sleep in read each byte wakes one that takes it; the end wakes all. Some of them leave with a signal.
TEST(pipe, readers_take_turns) {
  constexpr int kReaders = 8, kBytes = 2000;
  int fds[2], taken[2];
  OK(pipe(fds));
  OK(pipe(taken));
  pid_t readers[kReaders];
  for (pid_t& reader : readers)
    reader = start_child([&] {
      close(fds[1]);
      char byte;
      while (OK(read(fds[0], &byte, 1)) == 1) EQ(write(taken[1], &byte, 1), 1);
    });
  close(fds[0]);
  for (int i = 0; i < kBytes; ++i) {
    if (i == kBytes / 2) OK(kill(readers[0], SIGKILL));  // it was next, perhaps
    EQ(write(fds[1], "xy", 1 + i % 2), 1 + i % 2);
    char byte;
    for (int n = 0; n < 1 + i % 2; ++n)
      if (i < kBytes / 2 - 1) EQ(read(taken[0], &byte, 1), 1);
  }
  close(fds[1]);
  close(taken[1]);
  EQ(wait_child(readers[0]), 128 + SIGKILL);
  char rest[2 * kBytes];
  size_t left = 0;
  for (;;) {
    const ssize_t got = OK(read(taken[0], rest, sizeof rest));
    if (got == 0) break;
    left += static_cast<size_t>(got);
  }
  for (int i = 1; i < kReaders; ++i) EQ(wait_child(readers[i]), 0);
  // One may have been in the hands of who was killed.
  CHECK(left >= kBytes / 2 * 3 / 2 - 1);
}

TEST(pipe, vectors) {
  Pipe p;
  char a[4] = "abc", b[4] = "def";
  const iovec out[3] = {{a, 3}, {nullptr, 0}, {b, 3}};
  EQ(writev(p.out, out, 3), 6);
  char x[2], y[10];
  const iovec in[2] = {{x, 2}, {y, 10}};
  EQ(readv(p.in, in, 2), 6);
  CHECK(memcmp(x, "ab", 2) == 0 && memcmp(y, "cdef", 4) == 0);
  FAILS(readv(p.in, in, -1), EINVAL);
  FAILS(readv(p.in, in, 5000), EINVAL);
}

TEST(pipe, fstat) {
  Pipe p;
  struct stat one, two;
  OK(fstat(p.in, &one));
  OK(fstat(p.out, &two));
  CHECK(S_ISFIFO(one.st_mode));
  EQ(one.st_ino, two.st_ino);
}

TEST(fifo, opens_wait_for_each_other) {
  OK(mkfifo("fifo", 0600));
  FAILS(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
  const pid_t child = start_child([] {
    sleep_ms(30);
    const int out = OK(open("fifo", O_WRONLY));
    EQ(write(out, "through", 7), 7);
  });
  const int in = OK(open("fifo", O_RDONLY));
  CHECK(read_some(in, 100) == "through");
  EQ(read_some(in, 100).size(), 0);
  EQ(wait_child(child), 0);
  const int both = OK(open("fifo", O_RDWR));
  EQ(write(both, "q", 1), 1);
  CHECK(read_some(both, 1) == "q");
}

TEST(fifo, nonblocking_reader) {
  OK(mkfifo("fifo", 0600));
  const int in = OK(open("fifo", O_RDONLY | O_NONBLOCK));
  char byte;
  EQ(read(in, &byte, 1), 0);
  pollfd entry{in, POLLIN, 0};
  EQ(poll(&entry, 1, 0), 0);
  const int out = OK(open("fifo", O_WRONLY));
  FAILS(read(in, &byte, 1), EAGAIN);
  close(out);
  EQ(poll(&entry, 1, 0), 1);
  EQ(entry.revents, POLLHUP);
}
