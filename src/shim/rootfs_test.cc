#include "shim/rootfs.h"

#include <gtest/gtest.h>
#include <sys/mount.h>

namespace caisson::shim {
namespace {

TEST(RootfsMounts, FlagsAndDataAreToldApart) {
  MountOptions options = parse_mount_options({"ro", "nosuid", "workdir=/w", "rw", "lowerdir=/a:/b"});
  EXPECT_EQ(options.flags, static_cast<unsigned long>(MS_NOSUID));
  EXPECT_EQ(options.data, "workdir=/w,lowerdir=/a:/b");
}

TEST(RootfsMounts, ATargetOutsideIsRefused) {
  RootfsMount mount{"bind", "/", "../../etc", {"bind"}};
  Result<void> outcome = mount_rootfs(testing::TempDir(), {mount});
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().code(), EINVAL);
}

TEST(RootfsMounts, UnmountOfNothingSucceeds) { EXPECT_TRUE(unmount_rootfs("/nonexistent/bundle").ok()); }

}  // namespace
}  // namespace caisson::shim
