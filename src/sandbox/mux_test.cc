#include "sandbox/mux.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <thread>

#include "sandbox/mux_frame.h"

namespace caisson::sandbox {
namespace {

using namespace std::chrono_literals;

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) == 0) {
      read_end.reset(ends[0]);
      write_end.reset(ends[1]);
    }
  }
};

std::pair<UniqueFd, UniqueFd> socket_pair() {
  int ends[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  int bytes = 400 << 10;  // some tests send all before the mux runs
  for (int end : ends) setsockopt(end, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Byte number `position` of a stream: cheap, and different for streams and places.
char pattern(uint64_t seed, uint64_t position) { return static_cast<char>((position * 31 + (position >> 13) * 7 + seed * 101) >> 1); }

// Writes `bytes` of the pattern, then closes.
void write_pattern(UniqueFd fd, uint64_t seed, uint64_t bytes) {
  std::string block(60'000, '\0');
  for (uint64_t at = 0; at < bytes;) {
    size_t n = std::min<uint64_t>(block.size(), bytes - at);
    for (size_t i = 0; i < n; ++i) block[i] = pattern(seed, at + i);
    ssize_t wrote = write(fd.get(), block.data(), n);
    if (wrote <= 0) return;
    at += static_cast<uint64_t>(wrote);
  }
}

struct Checked {
  uint64_t bytes = 0;
  bool intact = true;
};

// Reads to the end, comparing with the pattern; pauses now and then when slow.
Checked read_pattern(UniqueFd fd, uint64_t seed, bool slow) {
  Checked result;
  std::string block(50'000, '\0');
  for (int reads = 0;; ++reads) {
    ssize_t n = read(fd.get(), block.data(), block.size());
    if (n <= 0) return result;
    for (ssize_t i = 0; i < n; ++i)
      result.intact &= block[static_cast<size_t>(i)] == pattern(seed, result.bytes + static_cast<uint64_t>(i));
    result.bytes += static_cast<uint64_t>(n);
    if (slow && reads % 64 == 0) std::this_thread::sleep_for(2ms);
  }
}

class MuxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    loop_ = std::move(host::EventLoop::create()).value();
  }

  void connect(Mux::Options host_options = {.hold_unattached = false}) {
    auto [one, two] = socket_pair();
    host_ = make(std::move(one), host_options, host_error_);
    guest_ = make(std::move(two), {}, guest_error_);
  }
  std::unique_ptr<Mux> make(UniqueFd transport, Mux::Options options, std::string& error) {
    return std::move(Mux::create(*loop_, std::move(transport), options, [&error](Error e) { error = e.message(); })).value();
  }

  // Runs the loop until `done` holds; false after the deadline.
  bool run_until(const std::function<bool()>& done, std::chrono::milliseconds deadline = 30s) {
    bool late = false;
    auto timer = loop_->add_timer(deadline, [&] {
      late = true;
      loop_->stop();
    });
    std::function<void()> check = [&] {
      if (done()) return loop_->stop();
      check_timer_ = loop_->add_timer(1ms, check);
    };
    check();
    EXPECT_TRUE(loop_->run().ok());
    loop_->cancel_timer(timer);
    loop_->cancel_timer(check_timer_);
    return !late;
  }

  // A mux whose other end is this test's: raw frames.
  UniqueFd connect_raw(Mux::Options options = {.hold_unattached = false}) {
    auto [one, two] = socket_pair();
    host_ = make(std::move(one), options, host_error_);
    send_frame(two.get(), FrameType::Hello, 0, kHelloPayload);
    return std::move(two);
  }
  static void send_frame(int fd, FrameType type, uint32_t channel, std::string_view payload) {
    std::string bytes(kFrameHeaderBytes, '\0');
    encode_header(bytes.data(), type, channel, static_cast<uint32_t>(payload.size()));
    bytes += payload;
    ASSERT_EQ(write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }

  std::unique_ptr<host::EventLoop> loop_;
  host::EventLoop::TimerId check_timer_ = 0;
  std::unique_ptr<Mux> host_, guest_;
  std::string host_error_, guest_error_;
};

TEST_F(MuxTest, HelloMakesBothReady) {
  connect();
  int ready = 0;
  host_->on_ready([&] { ++ready; });
  guest_->on_ready([&] { ++ready; });
  EXPECT_TRUE(run_until([&] { return ready == 2; }));
}

TEST_F(MuxTest, FiftyMegabytesBothWaysWithSlowReadersOnManyChannels) {
  connect();
  constexpr int kChannels = 10;
  constexpr uint64_t kBytes = 5'000'000;
  std::vector<std::thread> threads;
  std::vector<Checked> up(kChannels), down(kChannels);
  int closed = 0;
  for (int i = 0; i < kChannels; ++i) {
    Pipe host_in, host_out, guest_in, guest_out;
    uint32_t channel = static_cast<uint32_t>(i + 1);
    ASSERT_TRUE(
        host_->attach(channel, std::move(host_in.read_end), std::move(host_out.write_end), {.sink_closed = [&] { ++closed; }}).ok());
    ASSERT_TRUE(
        guest_->attach(channel, std::move(guest_in.read_end), std::move(guest_out.write_end), {.sink_closed = [&] { ++closed; }}).ok());
    uint64_t seed = static_cast<uint64_t>(i);
    threads.emplace_back([fd = std::move(host_in.write_end), seed]() mutable { write_pattern(std::move(fd), seed, kBytes); });
    threads.emplace_back([fd = std::move(guest_in.write_end), seed]() mutable { write_pattern(std::move(fd), seed + 50, kBytes); });
    threads.emplace_back(
        [&down, i, fd = std::move(guest_out.read_end), seed]() mutable { down[i] = read_pattern(std::move(fd), seed, i % 2 == 0); });
    threads.emplace_back(
        [&up, i, fd = std::move(host_out.read_end), seed]() mutable { up[i] = read_pattern(std::move(fd), seed + 50, i % 3 == 0); });
  }
  EXPECT_TRUE(run_until([&] { return closed == 2 * kChannels; }, 60s));
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kChannels; ++i) {
    EXPECT_EQ(up[i].bytes, kBytes);
    EXPECT_EQ(down[i].bytes, kBytes);
    EXPECT_TRUE(up[i].intact && down[i].intact) << i;
  }
  EXPECT_EQ(host_error_ + guest_error_, "");
}

TEST_F(MuxTest, AStuckReaderStopsNeitherOthersNorTheControlChannel) {
  connect();
  Pipe stuck_in, stuck_out, in, out;
  ASSERT_TRUE(guest_->attach(1, std::move(stuck_in.read_end), {}, {}).ok());
  ASSERT_TRUE(host_->attach(1, {}, std::move(stuck_out.write_end), {}).ok());
  ASSERT_TRUE(guest_->attach(2, std::move(in.read_end), {}, {}).ok());
  bool closed = false;
  ASSERT_TRUE(host_->attach(2, {}, std::move(out.write_end), {.sink_closed = [&] { closed = true; }}).ok());
  UniqueFd host_control = std::move(host_->attach_socket(0)).value();
  UniqueFd guest_control = std::move(guest_->attach_socket(0)).value();
  std::thread flood([fd = std::move(stuck_in.write_end)]() mutable { write_pattern(std::move(fd), 1, 100'000'000); });
  std::thread writer([fd = std::move(in.write_end)]() mutable { write_pattern(std::move(fd), 2, 8'000'000); });
  Checked got;
  std::thread reader([&, fd = std::move(out.read_end)]() mutable { got = read_pattern(std::move(fd), 2, false); });
  EXPECT_TRUE(run_until([&] { return closed; }));
  ASSERT_EQ(write(guest_control.get(), "alive", 5), 5);
  char answer[8] = {};
  EXPECT_TRUE(run_until([&] { return recv(host_control.get(), answer, sizeof answer, MSG_DONTWAIT) == 5; }));
  EXPECT_STREQ(answer, "alive");
  writer.join();
  reader.join();
  EXPECT_EQ(got.bytes, 8'000'000u);
  EXPECT_TRUE(got.intact);
  // What is under way for a reader that does not read is bounded: the two pipes and the credit.
  EXPECT_LE(host_->delivered(1), 64u << 10);
  stuck_out.read_end.reset();
  EXPECT_TRUE(run_until([&] { return host_error_.empty(); }));
  host_.reset();
  guest_.reset();
  flood.join();
}

TEST_F(MuxTest, ABrokenSinkGivesTheWriterEpipe) {
  connect();
  Pipe in, out;
  ASSERT_TRUE(guest_->attach(7, std::move(in.read_end), {}, {}).ok());
  ASSERT_TRUE(host_->attach(7, {}, std::move(out.write_end), {}).ok());
  out.read_end.reset();
  int code = 0;
  std::thread writer([&] {
    while (write(in.write_end.get(), "y\n", 2) > 0) {
    }
    code = errno;
  });
  std::atomic<bool> done = false;
  std::thread waiter([&] {
    writer.join();
    done = true;
  });
  EXPECT_TRUE(run_until([&] { return done.load(); }));
  waiter.join();
  EXPECT_EQ(code, EPIPE);
  EXPECT_EQ(host_error_ + guest_error_, "");
}

TEST_F(MuxTest, HalfCloseCarriesTheRestTheOtherWay) {
  connect();
  UniqueFd host_end = std::move(host_->attach_socket(3)).value();
  UniqueFd guest_end = std::move(guest_->attach_socket(3)).value();
  ASSERT_EQ(write(host_end.get(), "question", 8), 8);
  ASSERT_EQ(shutdown(host_end.get(), SHUT_WR), 0);
  std::string heard;
  char byte;
  EXPECT_TRUE(run_until([&] {
    ssize_t n;
    while ((n = recv(guest_end.get(), &byte, 1, MSG_DONTWAIT)) > 0) heard += byte;
    return n == 0;
  }));
  EXPECT_EQ(heard, "question");
  ASSERT_EQ(write(guest_end.get(), "answer", 6), 6);
  guest_end.reset();
  heard.clear();
  EXPECT_TRUE(run_until([&] {
    ssize_t n;
    while ((n = recv(host_end.get(), &byte, 1, MSG_DONTWAIT)) > 0) heard += byte;
    return n == 0;
  }));
  EXPECT_EQ(heard, "answer");
}

TEST_F(MuxTest, DrainReportsWhatTheSourceHeldWhileAWriterStaysOpen) {
  connect();
  Pipe in, out;
  ASSERT_TRUE(guest_->attach(4, std::move(in.read_end), {}, {}).ok());
  ASSERT_TRUE(host_->attach(4, {}, std::move(out.write_end), {}).ok());
  std::string text(50'000, 'x');
  ASSERT_EQ(write(in.write_end.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  std::optional<uint64_t> drained;
  bool delivered = false;
  guest_->drain(4, [&](uint64_t bytes) {
    drained = bytes;
    host_->when_delivered(4, bytes, [&] { delivered = true; });
  });
  EXPECT_TRUE(run_until([&] { return delivered; }));
  EXPECT_EQ(drained, text.size());
  EXPECT_EQ(host_->delivered(4), text.size());
  // An empty source, and a channel that there is not, answer too.
  int answers = 0;
  guest_->drain(4, [&](uint64_t bytes) { answers += bytes == text.size(); });
  guest_->drain(99, [&](uint64_t bytes) { answers += bytes == 0; });
  EXPECT_TRUE(run_until([&] { return answers == 2; }));
}

TEST_F(MuxTest, DrainOfASourceThatIsWrittenForEverEnds) {
  connect();
  Pipe in, out;
  ASSERT_TRUE(guest_->attach(4, std::move(in.read_end), {}, {}).ok());
  ASSERT_TRUE(host_->attach(4, {}, std::move(out.write_end), {}).ok());
  std::thread flood([fd = std::move(in.write_end)]() mutable { write_pattern(std::move(fd), 1, UINT64_MAX); });
  std::thread reader([fd = std::move(out.read_end)]() mutable { read_pattern(std::move(fd), 1, false); });
  bool drained = false;
  guest_->drain(4, [&](uint64_t) { drained = true; });
  EXPECT_TRUE(run_until([&] { return drained; }, 5s));
  guest_.reset();
  EXPECT_TRUE(run_until([&] { return !host_error_.empty(); }));
  host_.reset();
  flood.join();
  reader.join();
}

TEST_F(MuxTest, CloseSourceSendsWhatIsThereThenEnd) {
  connect();
  Pipe in, out;
  ASSERT_TRUE(host_->attach(5, std::move(in.read_end), {}, {}).ok());
  bool closed = false;
  ASSERT_TRUE(guest_->attach(5, {}, std::move(out.write_end), {.sink_closed = [&] { closed = true; }}).ok());
  ASSERT_EQ(write(in.write_end.get(), "last words", 10), 10);
  host_->close_source(5);
  EXPECT_TRUE(run_until([&] { return closed; }));
  char text[32] = {};
  EXPECT_EQ(read(out.read_end.get(), text, sizeof text), 10);
  EXPECT_EQ(read(out.read_end.get(), text, sizeof text), 0);
}

TEST_F(MuxTest, DataThatComesBeforeAttachIsHeld) {
  connect();
  Pipe in, out;
  ASSERT_TRUE(host_->attach(6, std::move(in.read_end), {}, {}).ok());
  std::thread writer([fd = std::move(in.write_end)]() mutable { write_pattern(std::move(fd), 6, 1'000'000); });
  EXPECT_FALSE(run_until([] { return false; }, 100ms));
  Checked got;
  std::thread reader([&, fd = std::move(out.read_end)]() mutable { got = read_pattern(std::move(fd), 6, false); });
  bool closed = false;
  ASSERT_TRUE(guest_->attach(6, {}, std::move(out.write_end), {.sink_closed = [&] { closed = true; }}).ok());
  EXPECT_TRUE(run_until([&] { return closed; }));
  writer.join();
  reader.join();
  EXPECT_EQ(got.bytes, 1'000'000u);
  EXPECT_TRUE(got.intact);
}

TEST_F(MuxTest, TerminalOutputIsWholeWhenTheProgramLeavesAtOnce) {
  connect();
  int master, slave;
  ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  UniqueFd owned_master(master), owned_slave(slave);
  termios raw;
  tcgetattr(slave, &raw);
  cfmakeraw(&raw);
  tcsetattr(slave, TCSANOW, &raw);
  Pipe out;
  UniqueFd twin(dup(master));
  ASSERT_TRUE(guest_->attach(1, std::move(owned_master), std::move(twin), {}).ok());
  bool closed = false;
  ASSERT_TRUE(host_->attach(1, {}, std::move(out.write_end), {.sink_closed = [&] { closed = true; }}).ok());
  std::thread writer([fd = std::move(owned_slave)]() mutable { write_pattern(std::move(fd), 9, 2'000'000); });
  Checked got;
  std::thread reader([&, fd = std::move(out.read_end)]() mutable { got = read_pattern(std::move(fd), 9, true); });
  EXPECT_TRUE(run_until([&] { return closed; }));
  writer.join();
  reader.join();
  EXPECT_EQ(got.bytes, 2'000'000u);
  EXPECT_TRUE(got.intact);
}

TEST_F(MuxTest, LocalFilesKeepTheirFlagsAndNullAndRegularFilesWork) {
  connect();
  Pipe in, out;
  int kept_in = dup(in.read_end.get()), kept_out = dup(out.write_end.get());
  char name[] = "/tmp/mux_test.XXXXXX";
  UniqueFd file(mkostemp(name, O_CLOEXEC));
  ASSERT_TRUE(file.valid());
  ASSERT_TRUE(host_->attach(1, std::move(in.read_end), std::move(out.write_end), {}).ok());
  ASSERT_TRUE(host_->attach(2, UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)), std::move(file), {}).ok());
  Pipe guest_in, guest_out;
  bool eof = false;
  ASSERT_TRUE(guest_->attach(1, {}, {}, {}).ok());
  ASSERT_TRUE(guest_->attach(2, std::move(guest_in.read_end), std::move(guest_out.write_end), {.sink_closed = [&] { eof = true; }}).ok());
  ASSERT_EQ(write(guest_in.write_end.get(), "to a file", 9), 9);
  guest_in.write_end.reset();
  EXPECT_TRUE(run_until([&] { return eof && host_->delivered(2) == 9; }));
  EXPECT_EQ(fcntl(kept_in, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(fcntl(kept_out, F_GETFL) & O_NONBLOCK, 0);
  close(kept_in);
  close(kept_out);
  UniqueFd again(open(name, O_RDONLY | O_CLOEXEC));
  char text[32] = {};
  EXPECT_EQ(read(again.get(), text, sizeof text), 9);
  EXPECT_STREQ(text, "to a file");
  unlink(name);
}

TEST_F(MuxTest, WhatWasReceivedIsDeliveredAfterThePeerDied) {
  UniqueFd peer = connect_raw();
  Pipe out;
  bool closed = false;
  ASSERT_TRUE(host_->attach(1, {}, std::move(out.write_end), {.sink_closed = [&] { closed = true; }}).ok());
  std::string block(60'000, 'z');
  for (int i = 0; i < 4; ++i) send_frame(peer.get(), FrameType::Data, 1, block);
  peer.reset();
  EXPECT_TRUE(run_until([&] { return !host_error_.empty(); }));
  Checked got;
  std::thread reader([&, fd = std::move(out.read_end)]() mutable { got = read_pattern(std::move(fd), 0, false); });
  EXPECT_TRUE(run_until([&] { return closed; }));
  reader.join();
  EXPECT_EQ(got.bytes, 240'000u);
}

// Each of these ends the mux with an error that says what was wrong, and nothing else.
struct Violation {
  const char* name;
  std::function<void(int)> commit;
  const char* message;
};

class MuxViolationTest : public MuxTest, public ::testing::WithParamInterface<int> {
 protected:
  static std::vector<Violation> violations() {
    std::string full(kMaxFramePayload, 'x');
    return {
        {"credit",
         [full](int fd) {
           for (int i = 0; i < 5; ++i) send_frame(fd, FrameType::Data, 2, full);
         },
         "more data on channel 2 than its credit"},
        {"unknown channel", [](int fd) { send_frame(fd, FrameType::Data, 77, "x"); }, "channel 77 was never opened"},
        {"end of unknown", [](int fd) { send_frame(fd, FrameType::Eof, 77, ""); }, "channel 77 was never opened"},
        {"credit for unknown", [](int fd) { send_frame(fd, FrameType::Credit, 77, std::string_view("\1\0\0\0", 4)); },
         "credit for channel 77"},
        {"credit not owed", [](int fd) { send_frame(fd, FrameType::Credit, 1, std::string_view("\1\0\0\0", 4)); },
         "1 bytes of credit for channel 1"},
        {"no credit", [](int fd) { send_frame(fd, FrameType::Credit, 1, std::string_view("\0\0\0\0", 4)); },
         "0 bytes of credit for channel 1"},
        {"empty data", [](int fd) { send_frame(fd, FrameType::Data, 1, ""); }, "malformed frame"},
        {"second hello", [](int fd) { send_frame(fd, FrameType::Hello, 0, kHelloPayload); }, "second Hello"},
        {"data after end",
         [](int fd) {
           send_frame(fd, FrameType::Eof, 1, "");
           send_frame(fd, FrameType::Data, 1, "x");
         },
         "after its end"},
        {"two ends",
         [](int fd) {
           send_frame(fd, FrameType::Eof, 1, "");
           send_frame(fd, FrameType::Eof, 1, "");
         },
         "ended twice"},
        {"oversized",
         [](int fd) {
           std::string header(kFrameHeaderBytes, '\0');
           encode_header(header.data(), FrameType::Data, 1, kMaxFramePayload + 1);
           ASSERT_EQ(write(fd, header.data(), header.size()), static_cast<ssize_t>(header.size()));
         },
         "a frame of 65537 bytes"},
        {"garbage", [](int fd) { ASSERT_EQ(write(fd, "\x01\0\0\0GARBAGE at length", 22), 22); }, "malformed frame"},
    };
  }
};

TEST_P(MuxViolationTest, EndsTheMuxOnly) {
  Violation violation = violations()[static_cast<size_t>(GetParam())];
  UniqueFd peer = connect_raw();
  Pipe out;
  bool closed = false;
  ASSERT_TRUE(host_->attach(1, {}, std::move(out.write_end), {.sink_closed = [&] { closed = true; }}).ok());
  ASSERT_TRUE(host_->attach(2, {}, {}, {}).ok());  // nobody reads this one: its credit is never renewed
  violation.commit(peer.get());
  std::thread reader([fd = std::move(out.read_end)]() mutable { read_pattern(std::move(fd), 0, false); });
  EXPECT_TRUE(run_until([&] { return !host_error_.empty(); }));
  EXPECT_NE(host_error_.find(violation.message), std::string::npos) << violation.name << ": " << host_error_;
  EXPECT_TRUE(run_until([&] { return closed; }));
  reader.join();
  // Later calls answer.
  EXPECT_FALSE(host_->attach(9, {}, {}, {}).ok());
  bool drained = false, delivered = false;
  host_->drain(1, [&](uint64_t) { drained = true; });
  host_->when_delivered(1, 1 << 30, [&] { delivered = true; });
  EXPECT_TRUE(run_until([&] { return drained && delivered; }));
}

INSTANTIATE_TEST_SUITE_P(All, MuxViolationTest, ::testing::Range(0, 12));

TEST_F(MuxTest, FirstFrameMustBeHello) {
  auto [one, two] = socket_pair();
  host_ = make(std::move(one), {}, host_error_);
  send_frame(two.get(), FrameType::Eof, 0, "");
  EXPECT_TRUE(run_until([&] { return !host_error_.empty(); }));
  EXPECT_NE(host_error_.find("did not start with Hello"), std::string::npos) << host_error_;
}

TEST_F(MuxTest, HeldChannelsAreBounded) {
  UniqueFd peer = connect_raw({});
  for (uint32_t channel = 1; channel <= 257; ++channel) send_frame(peer.get(), FrameType::Data, channel, "x");
  EXPECT_TRUE(run_until([&] { return !host_error_.empty(); }));
  EXPECT_NE(host_error_.find("256 channels"), std::string::npos) << host_error_;
}

TEST_F(MuxTest, ADetachedChannelMayStillReceiveWhatWasUnderWayButNoMore) {
  UniqueFd peer = connect_raw();
  ASSERT_TRUE(host_->attach(1, {}, {}, {}).ok());
  host_->detach(1);
  std::string full(kMaxFramePayload, 'x');
  for (int i = 0; i < 4; ++i) send_frame(peer.get(), FrameType::Data, 1, full);
  EXPECT_FALSE(run_until([&] { return !host_error_.empty(); }, 50ms));
  EXPECT_FALSE(host_->attach(1, {}, {}, {}).ok());
  send_frame(peer.get(), FrameType::Data, 1, "x");
  EXPECT_TRUE(run_until([&] { return !host_error_.empty(); }));
}

TEST_F(MuxTest, AZeroReadIsNotTheEndOfAVirtioPort) {
  // /dev/null reads 0 for ever, but epoll refuses it; a fifo whose writers come and go reads 0 in between.
  char folder[] = "/tmp/mux_test.XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  std::string fifo = std::string(folder) + "/port";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  UniqueFd reader(open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  UniqueFd transport(open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  auto writer = std::make_unique<UniqueFd>(open(fifo.c_str(), O_WRONLY | O_CLOEXEC));
  writer.reset();  // disconnected
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  // Its writes fail (the descriptor is read-only); with poll_on_zero_read only reads matter here.
  bool ready = false;
  host_ = make(std::move(transport), {.poll_on_zero_read = true}, host_error_);
  host_->on_ready([&] { ready = true; });
  EXPECT_FALSE(run_until([&] { return ready; }, 200ms));
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_nvcsw - before.ru_nvcsw, 1000);
  unlink(fifo.c_str());
  rmdir(folder);
}

}  // namespace
}  // namespace caisson::sandbox
