#include "kernel/tty/terminal.h"

#include <asm/ioctls.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kernel/fs/common/test_kernel.h"
#include "kernel/fs/devpts/devpts.h"
#include "kernel/tty/console.h"

namespace caisson::kernel {
namespace {

class TerminalTest : public TestKernel {
 protected:
  void SetUp() override {
    TestKernel::SetUp();
    ASSERT_TRUE(mount_usual(*task));
  }
  // Until the condition holds; the watcher's thread is at work.
  template <typename Condition>
  bool soon(Condition&& condition) {
    for (int i = 0; i < 500; ++i) {
      if (condition()) return true;
      usleep(10'000);
    }
    return false;
  }
};

TEST_F(TerminalTest, APairOfAGuest) {
  const FileRef master = open("/dev/ptmx", O_RDWR);
  ASSERT_TRUE(master);
  EXPECT_EQ(names("/dev/pts"), (std::vector<std::string>{".", "..", "ptmx", "0"}));
  EXPECT_EQ(open_path(*task, AT_FDCWD, "/dev/pts/0", O_RDWR, 0).error(), Errno(EIO)) << "it is locked at first";
}

TEST_F(TerminalTest, BothEndsOfAPair) {
  const auto devpts = devpts_of(*task);
  ASSERT_TRUE(devpts);
  const auto terminal = (*devpts)->make_terminal(*kernel, 0, 0);
  ASSERT_TRUE(terminal);
  FileRef slave = open("/dev/pts/0", O_RDWR | O_NOCTTY);
  ASSERT_TRUE(slave);
  EXPECT_EQ(slave->poll() & POLLIN, 0u);
  EXPECT_EQ((*terminal)->type("hello\r"), 6u);
  EXPECT_NE(slave->poll() & POLLIN, 0u);
  EXPECT_EQ(read(slave), "hello\n");
  EXPECT_EQ((*terminal)->take_output(100), "hello\r\n");
  ASSERT_TRUE(write(slave, "out\n"));
  EXPECT_EQ((*terminal)->take_output(100), "out\r\n");
  // More than fits: the writer is told to wait.
  const std::string much(200'000, 'x');
  const Result<size_t> put = write(slave, much);
  ASSERT_TRUE(put);
  EXPECT_LT(*put, much.size());
  EXPECT_EQ(write(slave, much).error(), Errno(EAGAIN));
  (*terminal)->hang_up();
  EXPECT_EQ(read(slave), "");
  EXPECT_EQ(write(slave, "x").error(), Errno(EIO));
  EXPECT_NE(slave->poll() & POLLHUP, 0u);
  EXPECT_FALSE((*terminal)->output_over());
  (*devpts)->remove(0);
  EXPECT_EQ(open_path(*task, AT_FDCWD, "/dev/pts/0", O_RDWR, 0).error(), Errno(ENOENT));
}

TEST_F(TerminalTest, AContainersConsole) {
  const UniqueFd master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(master);
  ASSERT_EQ(grantpt(master.get()), 0);
  ASSERT_EQ(unlockpt(master.get()), 0);
  UniqueFd host_slave(::open(ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(host_slave);
  winsize size{};
  size.ws_row = 33;
  size.ws_col = 77;
  ASSERT_EQ(ioctl(master.get(), TIOCSWINSZ, &size), 0);

  auto terminal = make_console(*kernel, container, std::move(host_slave), 0);
  ASSERT_TRUE(terminal);
  EXPECT_EQ((*terminal)->window_size(), (WindowSize{33, 77, 0, 0}));
  FileRef slave = *open_console(container, *terminal);
  EXPECT_EQ(slave->path().dentry->name(), "0");

  ASSERT_EQ(::write(master.get(), "typed\n", 6), 6);
  ASSERT_TRUE(soon([&] { return (slave->poll() & POLLIN) != 0; }));
  EXPECT_EQ(read(slave), "typed\n");
  ASSERT_TRUE(write(slave, "answer\n"));
  std::string seen;
  ASSERT_TRUE(soon([&] {
    pollfd ready{master.get(), POLLIN, 0};
    char bytes[256];
    while (poll(&ready, 1, 0) > 0 && seen.size() < 15)
      seen.append(bytes, static_cast<size_t>(std::max<ssize_t>(::read(master.get(), bytes, sizeof bytes), 0)));
    return seen == "typed\r\nanswer\r\n";
  })) << seen;

  size.ws_row = 50;
  ASSERT_EQ(ioctl(master.get(), TIOCSWINSZ, &size), 0);
  EXPECT_TRUE(soon([&] { return (*terminal)->window_size().rows == 50; }));

  // The last slave's end is the end of the host's terminal, after all output has gone there.
  ASSERT_TRUE(write(slave, "last\n"));
  slave.reset();
  seen.clear();
  ASSERT_TRUE(soon([&] {
    char bytes[256];
    pollfd ready{master.get(), POLLIN, 0};
    if (poll(&ready, 1, 0) <= 0) return false;
    const ssize_t got = ::read(master.get(), bytes, sizeof bytes);
    if (got > 0) seen.append(bytes, static_cast<size_t>(got));
    return got < 0 && errno == EIO;
  }));
  EXPECT_EQ(seen, "last\r\n");
}

TEST_F(TerminalTest, ConsoleWhoseEngineGoesAwayHangsUp) {
  UniqueFd master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(master && grantpt(master.get()) == 0 && unlockpt(master.get()) == 0);
  UniqueFd host_slave(::open(ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
  auto terminal = make_console(*kernel, container, std::move(host_slave), 0);
  ASSERT_TRUE(terminal);
  const FileRef slave = *open_console(container, *terminal);
  master.reset();
  EXPECT_TRUE(soon([&] { return (slave->poll() & POLLHUP) != 0; }));
  EXPECT_EQ(write(slave, "x").error(), Errno(EIO));
}

}  // namespace
}  // namespace caisson::kernel
