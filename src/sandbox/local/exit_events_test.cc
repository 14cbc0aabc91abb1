// Runs where the kernel tells the events of processes: on the node of tests/node_vm, for one.
#include "sandbox/local/exit_events.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <string>
#include <thread>

namespace caisson::sandbox::local {
namespace {

class ExitEventsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!ExitEvents::supported()) GTEST_SKIP() << "this kernel does not tell us the events of processes";
  }
  // What is told of a process that does `what`, and what waitpid(2) says.
  std::pair<int, int> told_and_true(const std::function<void()>& what) {
    int start[2];
    EXPECT_EQ(pipe(start), 0);
    const pid_t pid = fork();
    if (pid == 0) {
      char byte;
      if (read(start[0], &byte, 1) == 1) what();
      _exit(99);
    }
    auto events = ExitEvents::listen(pid);
    EXPECT_TRUE(events.ok()) << events.error().message();
    EXPECT_FALSE(events->status());
    EXPECT_EQ(write(start[1], "x", 1), 1);
    int status = -1;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);  // reaped, as an engine would
    for (int wait = 0; wait < 100 && !events->status(); ++wait) {
      pollfd poller{events->descriptor(), POLLIN, 0};
      poll(&poller, 1, 100);
      events->read();
    }
    close(start[0]);
    close(start[1]);
    return {events->status().value_or(-1), status};
  }
};

TEST_F(ExitEventsTest, StatusAndSignal) {
  auto [told, is] = told_and_true([] { _exit(7); });
  EXPECT_EQ(told, is);
  std::tie(told, is) = told_and_true([] { raise(SIGKILL); });
  EXPECT_EQ(told, is);
  EXPECT_EQ(WTERMSIG(told), SIGKILL);
}

TEST_F(ExitEventsTest, ThreadsThatEndedBeforeDoNotCount) {
  auto [told, is] = told_and_true([] {
    for (int i = 0; i < 3; ++i) std::thread([] {}).join();
    _exit(5);
  });
  EXPECT_EQ(told, is);
  // The first thread goes, another ends the process.
  std::tie(told, is) = told_and_true([] {
    std::thread([] {
      std::string line;
      while (line.find(") Z") == std::string::npos) std::getline(std::ifstream("/proc/self/stat"), line);
      _exit(6);
    }).detach();
    syscall(SYS_exit, 0);
  });
  EXPECT_EQ(told, is);
}

TEST_F(ExitEventsTest, AProgramExecutedByAnotherThread) {
  auto [told, is] = told_and_true([] { std::thread([] { execl("/bin/sh", "sh", "-c", "exit 9", nullptr); }).join(); });
  EXPECT_EQ(told, is);
}

TEST_F(ExitEventsTest, ItsChildrenAreOthers) {
  auto [told, is] = told_and_true([] {
    const pid_t child = fork();
    if (child == 0) _exit(1);
    waitpid(child, nullptr, 0);
    _exit(8);
  });
  EXPECT_EQ(told, is);
}

}  // namespace
}  // namespace caisson::sandbox::local
