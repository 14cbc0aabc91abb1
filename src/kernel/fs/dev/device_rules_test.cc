#include "kernel/fs/dev/device_rules.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "kernel/fs/host/device_file.h"

namespace caisson::kernel {
namespace {

constexpr uint32_t kAll = kDeviceMake | kDeviceRead | kDeviceWrite;

TEST(DeviceRules, TheLastRuleThatCoversAnAccessDecides) {
  const std::vector<DeviceRule> rules = {{false, true, true, -1, -1, kAll},
                                         {true, true, false, 10, 229, kDeviceRead | kDeviceMake},
                                         {true, false, true, -1, -1, kDeviceMake},
                                         {true, true, false, 1, -1, kAll},
                                         {false, true, false, 1, 5, kDeviceWrite}};
  EXPECT_TRUE(rules_allow(rules, S_IFCHR, makedev(10, 229), kDeviceRead));
  EXPECT_FALSE(rules_allow(rules, S_IFCHR, makedev(10, 229), kDeviceRead | kDeviceWrite));
  EXPECT_FALSE(rules_allow(rules, S_IFBLK, makedev(10, 229), kDeviceRead)) << "of another kind";
  EXPECT_TRUE(rules_allow(rules, S_IFBLK, makedev(7, 0), kDeviceMake));
  EXPECT_FALSE(rules_allow(rules, S_IFBLK, makedev(7, 0), kDeviceRead));
  EXPECT_TRUE(rules_allow(rules, S_IFCHR, makedev(1, 3), kAll));
  EXPECT_TRUE(rules_allow(rules, S_IFCHR, makedev(1, 5), kDeviceRead));
  EXPECT_FALSE(rules_allow(rules, S_IFCHR, makedev(1, 5), kAll));
}

TEST(DeviceFiles, TextsThatNameNoDeviceAreNone) {
  const std::optional<DeviceNumber> zero = parse_device("c 1:5"), disk = parse_device("b 259:1048575");
  ASSERT_TRUE(zero && disk);
  EXPECT_EQ(zero->type, mode_t{S_IFCHR});
  EXPECT_EQ(zero->number, makedev(1, 5));
  EXPECT_EQ(disk->type, mode_t{S_IFBLK});
  EXPECT_EQ(disk->number, makedev(259, 1048575));
  for (const char* text : {"", "c", "c 1", "c 1:", "c :1", "x 1:5", "c 1:5 ", "c -1:5", "c 1:99999999999", "c1:5  "})
    EXPECT_FALSE(parse_device(text)) << text;
}

}  // namespace
}  // namespace caisson::kernel
