// A kernel process that has been taken, at its log.
#include "appkernel/kernel_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

namespace caisson::appkernel {
namespace {

struct TheLog : testing::Test {
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    file.reset(memfd_create("log", MFD_CLOEXEC));
    log::to_descriptor(file.get());
    loop = std::move(*host::EventLoop::create());
    log = std::make_unique<KernelLog>(*loop);
    kernels = std::move(*log->open("c1"));
  }
  void TearDown() override {
    log.reset();
    log::to_descriptor(STDERR_FILENO);
  }
  void say(std::string_view text) { ASSERT_EQ(write(kernels.get(), text.data(), text.size()), static_cast<ssize_t>(text.size())); }
  std::string logged() {
    struct stat stat {};
    fstat(file.get(), &stat);
    std::string text(static_cast<size_t>(stat.st_size), '\0');
    EXPECT_EQ(pread(file.get(), text.data(), text.size(), 0), stat.st_size);
    return text;
  }

  UniqueFd file, kernels;
  std::unique_ptr<host::EventLoop> loop;
  std::unique_ptr<KernelLog> log;
};

TEST_F(TheLog, LinesComeThrough) {
  say("kernel: info: one\nkernel: warn");
  log->drain();
  EXPECT_EQ(logged(), "kernel: info: one\n");
  say("ing: two\n");
  log->drain();
  EXPECT_EQ(logged(), "kernel: info: one\nkernel: warning: two\n");
  say("the last words");
  kernels.reset();
  log->drain();
  EXPECT_EQ(logged(), "kernel: info: one\nkernel: warning: two\nkernel: the last words\n");
}

TEST_F(TheLog, ByTheLoop) {
  loop->post([&] {
    say("kernel: info: one\n");
    loop->add_timer(std::chrono::milliseconds(1), [&] { loop->stop(); });
  });
  ASSERT_TRUE(loop->run().ok());
  EXPECT_EQ(logged(), "kernel: info: one\n");
}

TEST_F(TheLog, NoLineIsTakenForAnothers) {
  say(std::string("time=now level=warning msg=\"forged\"\n\x1b[2J\r\0kernel\n", 49));
  log->drain();
  const std::string text = logged();
  EXPECT_TRUE(text.starts_with("kernel: time=now level=warning msg=\"forged\"\nkernel: ?[2J??kernel\n")) << text;
}

TEST_F(TheLog, ALineWithoutEndHasOne) {
  const std::string piece(10'000, 'x');
  for (int i = 0; i < 5; ++i) say(piece);
  log->drain();
  const std::string text = logged();
  EXPECT_GT(text.size(), 48'000u);
  EXPECT_LT(text.size(), 51'000u);
  EXPECT_GT(std::count(text.begin(), text.end(), '\n'), 10);
}

TEST_F(TheLog, HasAnEnd) {
  const std::string piece(60'000, 'x');
  ssize_t sent;
  int64_t all = 0;
  while ((sent = write(kernels.get(), piece.data(), piece.size())) > 0 && all < 2 * KernelLog::kMost) {
    all += sent;
    log->drain();
  }
  EXPECT_LT(all, KernelLog::kMost + (1 << 20));
  EXPECT_TRUE(sent < 0 && errno == EPIPE);
  const std::string text = logged();
  EXPECT_LT(text.size(), static_cast<size_t>(KernelLog::kMost) * 102 / 100 + (1 << 20));
  EXPECT_NE(text.find("container c1 writes more to its log than it should"), text.npos);
  log->allow_trace();  // it stays closed
  EXPECT_LT(write(kernels.get(), "x", 1), 0);
}

TEST_F(TheLog, EmptyLinesCount) {
  const std::string piece(60'000, '\n');
  int64_t all = 0;
  ssize_t sent;
  while ((sent = write(kernels.get(), piece.data(), piece.size())) > 0 && all < KernelLog::kMost) {
    all += sent;
    log->drain();
  }
  EXPECT_TRUE(sent < 0 && errno == EPIPE);
  EXPECT_LT(all, KernelLog::kMost / 16);
  EXPECT_LT(logged().size(), static_cast<size_t>(KernelLog::kMost));
}

TEST_F(TheLog, WhoAsksForCallsGetsThem) {
  log->allow_trace();
  std::string piece;
  while (piece.size() < 60'000) piece += std::string(999, 'x') + '\n';
  int64_t all = 0;
  for (; all < KernelLog::kMost + (1 << 20); all += static_cast<int64_t>(piece.size())) {
    say(piece);
    log->drain();
  }
  EXPECT_GT(write(kernels.get(), "x", 1), 0);
}

TEST_F(TheLog, NobodyWaitsForAReader) {
  const std::string piece(60'000, 'x');
  for (int i = 0; i < 100; ++i)
    if (write(kernels.get(), piece.data(), piece.size()) < 0) break;
  EXPECT_TRUE(write(kernels.get(), piece.data(), piece.size()) < 0 && errno == EAGAIN);
}

}  // namespace
}  // namespace caisson::appkernel
