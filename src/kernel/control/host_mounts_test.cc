#include "kernel/control/host_mounts.h"

#include <gtest/gtest.h>

namespace caisson::kernel {
namespace {

TEST(HostMounts, LinesAreRead) {
  const auto mounts = parse_mountinfo(
      "21 1 8:1 / / ro,relatime shared:1 - ext4 /dev/sda1 rw\n"
      "30 21 0:25 /a /with\\040space rw,nosuid - tmpfs my\\011source rw,size=4k\n"
      "31 21 0:26 / /x rw shared:2 master:3 - overlay overlay rw\n"
      "broken line\n"
      "40 21 0:1 / /no-dash rw\n");
  ASSERT_EQ(mounts.size(), 3u);
  EXPECT_EQ(mounts[0], (HostMount{"/", "ext4", "/dev/sda1", "ro,relatime"}));
  EXPECT_EQ(mounts[1], (HostMount{"/with space", "tmpfs", "my\tsource", "rw,nosuid"}));
  EXPECT_EQ(mounts[2].type, "overlay");
  EXPECT_TRUE(parse_mountinfo("").empty());
}

}  // namespace
}  // namespace caisson::kernel
