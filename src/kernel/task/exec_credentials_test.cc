#include "kernel/task/exec_credentials.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace caisson::kernel {
namespace {

using namespace std::string_literals;

TEST(ParseFileCapabilities, Versions) {
  const auto first = parse_file_capabilities("\1\0\0\1\x21\0\0\0\2\0\0\0"s);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->permitted, 0x21u);
  EXPECT_EQ(first->inheritable, 2u);
  EXPECT_TRUE(first->effective);
  const auto second = parse_file_capabilities("\0\0\0\2\x21\0\0\0\2\0\0\0\1\0\0\0\0\1\0\0"s);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->permitted, 0x1'0000'0021u);
  EXPECT_EQ(second->inheritable, 0x100'0000'0002u);
  EXPECT_FALSE(second->effective);
  EXPECT_EQ(second->root, 0u);
  const auto third = parse_file_capabilities("\1\0\0\3\x21\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0\xe8\3\0\0"s);
  ASSERT_TRUE(third);
  EXPECT_EQ(third->permitted, (kAllCapabilities & ~0xffffffffULL) | 0x21);  // no more than there are
  EXPECT_EQ(third->root, 1000u);
}

TEST(ParseFileCapabilities, RefusesOthers) {
  EXPECT_FALSE(parse_file_capabilities(""));
  EXPECT_FALSE(parse_file_capabilities("\0\0\0"s));
  EXPECT_FALSE(parse_file_capabilities("\0\0\0\2"s));
  EXPECT_FALSE(parse_file_capabilities("\0\0\0\2\x21\0\0\0\2\0\0\0\1\0\0\0\0\1\0"s));
  EXPECT_FALSE(parse_file_capabilities("\0\0\0\2\x21\0\0\0\2\0\0\0\1\0\0\0\0\1\0\0\0\0\0\0"s));
  EXPECT_FALSE(parse_file_capabilities("\0\0\0\4\x21\0\0\0\2\0\0\0\1\0\0\0\0\1\0\0\0\0\0\0"s));
  EXPECT_FALSE(parse_file_capabilities("\0\0\0\3\x21\0\0\0\2\0\0\0\1\0\0\0\0\1\0\0\0\0\0\0\0"s));
}

TEST(ParseFileCapabilities, AnyBytes) {
  std::minstd_rand random(20261121);
  int parsed = 0;
  for (int i = 0; i < 100'000; ++i) {
    std::vector<char> value(random() % 28);  // on the heap, as long as it is: the address sanitizer sees what lies beyond
    for (char& byte : value) byte = static_cast<char>(random());
    if (value.size() >= 4) value[3] = static_cast<char>(random() % 5);
    if (value.size() >= 3) value[1] = value[2] = 0;
    const auto found = parse_file_capabilities({value.data(), value.size()});
    if (!found) continue;
    ++parsed;
    EXPECT_EQ((found->permitted | found->inheritable) & ~kAllCapabilities, 0u);
  }
  EXPECT_GT(parsed, 100);
}

}  // namespace
}  // namespace caisson::kernel
