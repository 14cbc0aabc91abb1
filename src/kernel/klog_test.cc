#include "kernel/klog.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>

#include "base/unique_fd.h"

namespace caisson::kernel {
namespace {

// In a process of its own: what has been logged is counted for the life of one.
std::string logged_by(const std::function<void()>& work) {
  const UniqueFd file(memfd_create("log", MFD_CLOEXEC));
  const pid_t child = fork();
  if (child == 0) {
    klog_configure(file.get(), LogLevel::Info);
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  struct stat stat {};
  fstat(file.get(), &stat);
  std::string text(static_cast<size_t>(stat.st_size), '\0');
  EXPECT_EQ(pread(file.get(), text.data(), text.size(), 0), stat.st_size);
  return text;
}

long lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

TEST(Log, OneKindDoesNotCrowdOutTheOthers) {
  const std::string text = logged_by([] {
    for (int i = 0; i < 100'000; ++i) klog(LogLevel::Warning, "again and again: %d", i);
    klog(LogLevel::Warning, "something else");
  });
  EXPECT_GE(lines(text), kLinesAtOnce + 1);
  EXPECT_LE(lines(text), kLinesAtOnce + 60) << "one a second since";
  EXPECT_NE(text.find("kernel: warning: again and again: 0\n"), text.npos);
  EXPECT_NE(text.find("kernel: warning: something else\n"), text.npos);
}

TEST(Log, WhatWasLeftOutIsTold) {
  const std::string text = logged_by([] {
    const auto again = [] { klog(LogLevel::Info, "again"); };
    for (int i = 0; i < kLinesAtOnce + 5; ++i) again();
    usleep(1'100'000);
    again();
  });
  EXPECT_NE(text.find("lines like this one were left out) again\n"), text.npos) << text;
}

TEST(Log, SystemCallsHaveAnEnd) {
  const std::string text = logged_by([] {
    const std::string long_text(900, 'x');
    for (int64_t sent = 0; sent < kMostTraced + (1 << 20); sent += 900) klog_trace("%s", long_text.c_str());
    for (int i = 0; i < 10; ++i) klog_trace("more");
  });
  EXPECT_GE(static_cast<int64_t>(text.size()), kMostTraced);
  EXPECT_LT(static_cast<int64_t>(text.size()), kMostTraced + 4096);
  EXPECT_EQ(text.find("more\n"), text.npos);
  EXPECT_TRUE(text.ends_with("goes on\n"));
}

TEST(Log, TextOfGuestsForgesNoLines) {
  const std::string text = logged_by([] { klog(LogLevel::Error, "name: %s", ("evil\n\033[2J" + std::string(3000, 'a')).c_str()); });
  EXPECT_EQ(lines(text), 1);
  EXPECT_EQ(text.find('\033'), text.npos);
  EXPECT_LE(text.size(), 1024u);
  EXPECT_EQ(text.back(), '\n');
}

TEST(Log, NobodyReads) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  ASSERT_GE(fcntl(ours.get(), F_SETPIPE_SZ, 4096), 0);
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);
    klog_configure(theirs.get(), LogLevel::Info);
    for (int i = 0; i < 1000; ++i) klog_trace("call %d", i);  // waits once
    // There is room again.
    char text[8192];
    if (read(ours.get(), text, sizeof text) <= 0) _exit(2);
    klog_trace("the last call");
    _exit(0);
  }
  theirs.reset();
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  char text[8192] = {};
  EXPECT_GT(read(ours.get(), text, sizeof text - 1), 0);
  EXPECT_NE(std::string(text).find("the last call\n"), std::string::npos);
  EXPECT_NE(std::string(text).find("lines before this one were lost\n"), std::string::npos);
}

}  // namespace
}  // namespace caisson::kernel
