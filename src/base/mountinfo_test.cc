#include "base/mountinfo.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace caisson {
namespace {

TEST(MountInfoTest, Fields) {
  const auto mounts = parse_mountinfo(
      "22 27 0:21 / /a\\040b\\134 rw,relatime shared:1 master:2 - proc proc rw\n"
      "41 22 0:9 /sub /c ro - cgroup my\\011source rw,memory\n"
      "43 22 0:9 / /no-source ro - tmpfs  rw,size=4k");
  const std::vector<MountInfo> wanted = {{22, "/", "/a b\\", "rw,relatime", "proc", "proc", "rw", "shared:1 master:2"},
                                         {41, "/sub", "/c", "ro", "cgroup", "my\tsource", "rw,memory", ""},
                                         {43, "/", "/no-source", "ro", "tmpfs", "", "rw,size=4k", ""}};
  EXPECT_EQ(mounts, wanted);
}

TEST(MountInfoTest, BrokenLinesAreLeftOut) {
  for (const char* line : {"", "nonsense", "1 2 0:1 / /a rw", "1 2 0:1 / /a rw -", "1 2 0:1 / /a rw - proc",
                           "x 2 0:1 / /a rw - proc proc rw", "1 2 0:1 / - proc proc rw"})
    EXPECT_TRUE(parse_mountinfo(line).empty()) << line;
}

TEST(MountInfoTest, WhatIsNoEscapeStays) {
  EXPECT_EQ(parse_mountinfo("1 2 0:1 / /a\\04 rw - t s rw").at(0).point, "/a\\04");
  EXPECT_EQ(parse_mountinfo("1 2 0:1 / /a\\089 rw - t s rw").at(0).point, "/a\\089");
}

TEST(SplitFieldsTest, EmptyPartsAreLeftOut) {
  EXPECT_EQ(split_fields(",a,,b,", ','), (std::vector<std::string_view>{"a", "b"}));
  EXPECT_TRUE(split_fields("", ',').empty());
}

}  // namespace
}  // namespace caisson
