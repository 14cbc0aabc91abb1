#include "kernel/tty/line_discipline.h"

#include <asm/termbits.h>
#include <gtest/gtest.h>
#include <signal.h>

namespace caisson::kernel {
namespace {

class LineDisciplineTest : public testing::Test {
 protected:
  void type(std::string_view bytes) { EXPECT_EQ(tty.input(bytes, effects), bytes.size()); }
  std::string shown() { return tty.take_output(1 << 20, effects); }
  std::string read(size_t most = 4096) { return tty.read(most, effects); }
  void set(auto change) {
    TerminalSettings settings = tty.settings();
    change(settings);
    tty.set_settings(settings, effects);
  }
  LineDiscipline tty;
  Effects effects;
};

TEST_F(LineDisciplineTest, LinesAreReadWhole) {
  type("hel");
  EXPECT_FALSE(tty.ready(100));
  type("lo\rnext");
  ASSERT_TRUE(tty.ready(100));
  EXPECT_TRUE(effects.input);
  EXPECT_EQ(tty.readable(), 6u);
  EXPECT_EQ(read(3), "hel");
  EXPECT_EQ(read(), "lo\n");
  EXPECT_FALSE(tty.ready(1));
  EXPECT_EQ(shown(), "hello\r\nnext");
}

TEST_F(LineDisciplineTest, EndOfFileKeyEndsALineWithoutBeingRead) {
  type("ab\4");
  ASSERT_TRUE(tty.ready(10));
  EXPECT_EQ(read(), "ab");
  EXPECT_FALSE(tty.ready(10));
  type("\4");
  ASSERT_TRUE(tty.ready(10));
  EXPECT_EQ(read(), "");
  EXPECT_FALSE(tty.ready(10));
}

TEST_F(LineDisciplineTest, KeysEraseCharacterWordAndLine) {
  type("abc\177d\n");
  EXPECT_EQ(read(), "abd\n");
  EXPECT_EQ(shown(), "abc\b \bd\r\n");
  type("one two\27x\n");
  EXPECT_EQ(read(), "one x\n");
  (void)shown();
  type("gone\25kept\n");
  EXPECT_EQ(read(), "kept\n");
  EXPECT_EQ(shown(), "gone\b \b\b \b\b \b\b \bkept\r\n");
  type("\177\177\177x\n");
  EXPECT_EQ(read(), "x\n");
}

TEST_F(LineDisciplineTest, Utf8IsErasedWhole) {
  set([](TerminalSettings& s) { s.input |= IUTF8; });
  type("a\xc3\xa4\177\n");
  EXPECT_EQ(read(), "a\n");
  EXPECT_EQ(shown(), "a\xc3\xa4\b \b\r\n");
}

TEST_F(LineDisciplineTest, ControlCharactersAreShownAndErasedAsTwo) {
  type("\1\177\n");
  EXPECT_EQ(shown(), "^A\b \b\b \b\r\n");
  EXPECT_EQ(read(), "\n");
}

TEST_F(LineDisciplineTest, LiteralNextKeepsAKeyFromActing) {
  type("\26\3\n");
  EXPECT_EQ(read(), "\3\n");
  EXPECT_TRUE(effects.signals.empty());
}

TEST_F(LineDisciplineTest, SignalKeysDropWhatWasTyped) {
  type("abc\3");
  EXPECT_EQ(effects.signals, std::string(1, SIGINT));
  EXPECT_EQ(shown(), "^C");  // output is flushed too, and the key is echoed after that
  type("x\n");
  EXPECT_EQ(read(), "x\n");
  effects = {};
  type("\32\34");
  EXPECT_EQ(effects.signals, (std::string{SIGTSTP, SIGQUIT}));
  set([](TerminalSettings& s) { s.local &= ~static_cast<uint32_t>(ISIG); });
  effects = {};
  type("\3\n");
  EXPECT_TRUE(effects.signals.empty());
  EXPECT_EQ(read(), "\3\n");
}

TEST_F(LineDisciplineTest, RawModeHonoursTheLeastNumber) {
  set([](TerminalSettings& s) {
    s.local &= ~static_cast<uint32_t>(ICANON | ECHO | ISIG);
    s.input &= ~static_cast<uint32_t>(ICRNL | IXON);
    s.keys[VMIN] = 3;
  });
  type("a\r");
  EXPECT_FALSE(tty.ready(100));
  EXPECT_TRUE(tty.ready(2));
  type("\3");
  EXPECT_TRUE(tty.ready(100));
  EXPECT_EQ(read(), "a\r\3");
  EXPECT_EQ(shown(), "");
}

TEST_F(LineDisciplineTest, LeavingAndEnteringLineModeKeepsWhatWasTyped) {
  type("one\ntw");
  set([](TerminalSettings& s) { s.local &= ~static_cast<uint32_t>(ICANON); });
  EXPECT_TRUE(tty.ready(1));
  EXPECT_EQ(read(4), "one\n");
  set([](TerminalSettings& s) { s.local |= ICANON; });
  ASSERT_TRUE(tty.ready(1));
  EXPECT_EQ(read(), "tw");
}

TEST_F(LineDisciplineTest, OutputIsProcessed) {
  EXPECT_EQ(tty.output("a\nb", effects), 3u);
  EXPECT_EQ(shown(), "a\r\nb");
  set([](TerminalSettings& s) { s.output |= XTABS; });
  tty.output("\r12\tx", effects);
  EXPECT_EQ(shown(), "\r12      x");
  set([](TerminalSettings& s) { s.output &= ~static_cast<uint32_t>(OPOST); });
  tty.output("a\nb", effects);
  EXPECT_EQ(shown(), "a\nb");
}

TEST_F(LineDisciplineTest, FlowControlStopsAndStarts) {
  type("\23");
  tty.output("x", effects);
  EXPECT_FALSE(tty.output_available());
  EXPECT_EQ(shown(), "");
  type("\21");
  EXPECT_EQ(shown(), "x");
}

TEST_F(LineDisciplineTest, OutputAndInputAreBounded) {
  const std::string much(1 << 20, 'x');
  const size_t taken = tty.output(much, effects);
  EXPECT_GE(taken, LineDiscipline::kMostOutput);
  EXPECT_LE(taken, LineDiscipline::kMostOutput + 1);
  EXPECT_TRUE(tty.output_full());
  (void)shown();
  // A line beyond the limit loses its end but not its newline.
  type(std::string(10000, 'y') + "\n");
  EXPECT_EQ(read(20000).size(), LineDiscipline::kMostInput);
  // Finished lines fill the buffer: the rest has to wait.
  std::string lines;
  for (int i = 0; i < 3000; ++i) lines += "z\n";
  const size_t used = tty.input(lines, effects);
  EXPECT_LT(used, lines.size());
  EXPECT_GT(used, 1000u);
  // So do endless end-of-file keys.
  tty.flush_input(effects);
  EXPECT_LT(tty.input(std::string(100000, '\4'), effects), 5000u);
}

TEST_F(LineDisciplineTest, WhatWasNotDeliveredComesBackInFront) {
  type("hello\nnext\n");
  const std::string line = read();
  tty.put_back(line.substr(2));
  EXPECT_EQ(read(), "llo\n");
  EXPECT_EQ(read(), "next\n");
}

TEST_F(LineDisciplineTest, EchoOfNothing) {
  set([](TerminalSettings& s) { s.local &= ~static_cast<uint32_t>(ECHO); });
  type("secret\n");
  EXPECT_EQ(shown(), "");
  set([](TerminalSettings& s) { s.local |= ECHONL; });
  type("secret\n");
  EXPECT_EQ(shown(), "\r\n");
}

}  // namespace
}  // namespace caisson::kernel
