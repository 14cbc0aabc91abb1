#include "base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "base/utf8.h"

namespace caisson {
namespace {

std::string slurp(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string without_digits(std::string text) {
  for (char& byte : text)
    if (byte >= '0' && byte <= '9') byte = '#';
  return text;
}

class LogTest : public ::testing::Test {
 protected:
  std::string path_ = testing::TempDir() + "caisson-log-" + std::to_string(getpid());
  void TearDown() override {
    unlink(path_.c_str());
    ASSERT_TRUE(log::configure("", log::Format::Text, log::Level::Info).ok());
  }
};

TEST_F(LogTest, JsonLinesHaveRuncsForm) {
  ASSERT_TRUE(log::configure(path_, log::Format::Json, log::Level::Debug).ok());
  log::debug("quote \" backslash \\ line\nbell \a bad \xff {}", 1);
  EXPECT_EQ(without_digits(slurp(path_)),
            "{\"level\":\"debug\",\"msg\":\"quote \\\" backslash \\\\ line\\nbell \\u#### bad \xef\xbf\xbd "
            "#\",\"time\":\"####-##-##T##:##:##.###Z\"}\n");
}

TEST_F(LogTest, TextFileAndLevels) {
  ASSERT_TRUE(log::configure(path_, log::Format::Text, log::Level::Warning).ok());
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_FALSE(log::enabled(log::Level::Info));
  log::info("not seen");
  log::warning("seen");
  EXPECT_EQ(without_digits(slurp(path_)), "time=\"####-##-##T##:##:##.###Z\" level=warning msg=\"seen\"\n");
}

TEST_F(LogTest, ErrorsAreAlsoShownToTheCaller) {
  ASSERT_TRUE(log::configure(path_, log::Format::Json, log::Level::Info).ok());
  testing::internal::CaptureStderr();
  log::info("only in the file");
  log::error("container \"x\" does not exist\x1b[2J");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "caisson: container \"x\" does not exist\\x1b[2J\n");
}

TEST_F(LogTest, FileThatCannotBeOpened) {
  auto failed = log::configure("/nonexistent/log", log::Format::Text, log::Level::Info);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code(), ENOENT);
  EXPECT_NE(failed.error().message().find("/nonexistent/log"), std::string::npos);
}

TEST(Utf8Test, Sequences) {
  EXPECT_EQ(utf8_sequence(""), 0u);
  EXPECT_EQ(utf8_sequence("a"), 1u);
  EXPECT_EQ(utf8_sequence("\xc3\xa9"), 2u);
  EXPECT_EQ(utf8_sequence("\xe2\x82\xac"), 3u);
  EXPECT_EQ(utf8_sequence("\xf0\x9f\x98\x80"), 4u);
  EXPECT_EQ(utf8_sequence("\xc3"), 0u);              // cut short
  EXPECT_EQ(utf8_sequence("\xc0\x80"), 0u);          // overlong
  EXPECT_EQ(utf8_sequence("\xe0\x80\x80"), 0u);      // overlong
  EXPECT_EQ(utf8_sequence("\xed\xa0\x80"), 0u);      // surrogate
  EXPECT_EQ(utf8_sequence("\xf4\x90\x80\x80"), 0u);  // beyond U+10FFFF
}

TEST(Utf8Test, PrintableLeavesTextAndDisarmsControls) {
  EXPECT_EQ(printable("tab\tline\n\xc3\xa9"), "tab\tline\n\xc3\xa9");
  EXPECT_EQ(printable("\x1b]0;\x07\x7f\xff\xc2\x9b"), "\\x1b]0;\\x07\\x7f\\xff\\xc2\\x9b");
}

}  // namespace
}  // namespace caisson
