#include "appkernel/house.h"

#include <gtest/gtest.h>

namespace caisson::appkernel {
namespace {

TEST(House, TheKernelsCgroupIsBesideAndNoContainersByItsName) {
  EXPECT_EQ(cgroup_of_kernel("/pod/a"), "/pod/a.kernel");
  EXPECT_EQ(cgroup_of_kernel("/sys/fs/cgroup/x.slice/caisson-a.scope"), "/sys/fs/cgroup/x.slice/caisson-a.kernel.scope");
  EXPECT_EQ(cgroup_of_kernel("/.scope"), "/.kernel.scope");
  const std::string half = "0123456789abcdef0123456789abcdef";
  EXPECT_EQ(cgroup_of_kernel("/pod/" + half), "/pod/" + half + ".kernel");
  EXPECT_EQ(cgroup_of_kernel("/" + half + half + "/" + half + half), "/" + half + half + "/" + half + "-" + half + ".kernel");
  EXPECT_EQ(cgroup_of_kernel("/kubepods.slice/cri-containerd-" + half + half + ".scope"),
            "/kubepods.slice/cri-containerd-" + half + "-" + half + ".kernel.scope");
}

}  // namespace
}  // namespace caisson::appkernel
