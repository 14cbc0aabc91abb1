#include <gtest/gtest.h>

#include "host/cgroup.h"
#include "host/cgroup_files.h"

namespace caisson::host {
namespace {

constexpr const char* kHybrid =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
    "99 31 0:32 / /var/lib/odd\\040name/cgroup rw,relatime - cgroup cgroup rw,memory\n"
    "garbage\n - \n1 2 3 - x\n";
constexpr const char* kUnified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

TEST(CgroupLayout, HybridCountsAsV1) {
  CgroupLayout layout = parse_cgroup_layout(kHybrid);
  EXPECT_EQ(layout.version, CgroupVersion::V1);
  EXPECT_EQ(layout.unified, "/sys/fs/cgroup/unified");
  EXPECT_EQ(layout.controllers, (std::map<std::string, std::string>{{"cpu", "/sys/fs/cgroup/cpu,cpuacct"},
                                                                    {"cpuacct", "/sys/fs/cgroup/cpu,cpuacct"},
                                                                    {"memory", "/sys/fs/cgroup/memory"},
                                                                    {"name=systemd", "/sys/fs/cgroup/systemd"}}));
}

TEST(CgroupLayout, NamedHierarchyAloneIsV2) {
  CgroupLayout layout =
      parse_cgroup_layout(std::string(kUnified) + "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n");
  EXPECT_EQ(layout.version, CgroupVersion::V2);
  EXPECT_EQ(layout.unified, "/sys/fs/cgroup");
}

TEST(CgroupLayout, PrefersWritableMounts) {
  CgroupLayout layout = parse_cgroup_layout(
      "1 1 0:1 / /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n"
      "2 1 0:1 / /mnt/my\\040memory rw,relatime - cgroup cgroup rw,memory\n");
  EXPECT_EQ(layout.controllers.at("memory"), "/mnt/my memory");
}

TEST(CgroupLayout, EmptyTextHasNothing) {
  CgroupLayout layout = parse_cgroup_layout("");
  EXPECT_TRUE(layout.unified.empty());
  EXPECT_FALSE(cgroup_paths(layout, "/x").ok());
}

TEST(CgroupPath, IsCleanAndNeverLeavesTheRoot) {
  EXPECT_EQ(clean_cgroup_path("a//b/./c/"), "/a/b/c");
  EXPECT_EQ(clean_cgroup_path("/a/../../b"), "/b");
  EXPECT_EQ(clean_cgroup_path("../../.."), "/");
  EXPECT_EQ(clean_cgroup_path(""), "/");
}

TEST(CgroupPaths, AbsoluteIsBelowEveryMountPoint) {
  CgroupPaths paths = cgroup_paths(parse_cgroup_layout(kHybrid), "/m/x").value();
  EXPECT_EQ(paths.path, "/m/x");
  EXPECT_EQ(paths.folders.at("memory"), "/sys/fs/cgroup/memory/m/x");
  EXPECT_EQ(paths.folders.at("cpuacct"), "/sys/fs/cgroup/cpu,cpuacct/m/x");
  EXPECT_EQ(paths.folders.at(""), "/sys/fs/cgroup/unified/m/x");
  CgroupPaths v2 = cgroup_paths(parse_cgroup_layout(kUnified), "m/x").value();
  EXPECT_EQ(v2.folders, (std::map<std::string, std::string>{{"", "/sys/fs/cgroup/m/x"}}));
}

// What runc 1.1.5 does, seen by running it with a relative cgroupsPath on a machine whose own cgroup differs by controller.
TEST(CgroupPaths, RelativeIsBelowTheOwnCgroupOfEachController) {
  CgroupPaths paths = cgroup_paths_below_own(parse_cgroup_layout(kHybrid), "foo/bar",
                                             "5:cpu,cpuacct:/\n4:memory:/process_api/a5\n1:name=systemd:/s\n0::/\n")
                          .value();
  EXPECT_EQ(paths.folders.at("memory"), "/sys/fs/cgroup/memory/process_api/a5/foo/bar");
  EXPECT_EQ(paths.folders.at("cpu"), "/sys/fs/cgroup/cpu,cpuacct/foo/bar");
  EXPECT_EQ(paths.folders.at("name=systemd"), "/sys/fs/cgroup/systemd/s/foo/bar");
  EXPECT_EQ(paths.path, "/process_api/a5/foo/bar");
}

TEST(CgroupPaths, RelativeOnV2IsBesideTheOwnCgroup) {
  CgroupPaths paths = cgroup_paths_below_own(parse_cgroup_layout(kUnified), "x", "0::/user.slice/session.scope\n").value();
  EXPECT_EQ(paths.path, "/user.slice/x");
  EXPECT_EQ(paths.folders.at(""), "/sys/fs/cgroup/user.slice/x");
  EXPECT_EQ(cgroup_paths_below_own(parse_cgroup_layout(kUnified), "x", "0::/\n")->path, "/x");
  EXPECT_EQ(cgroup_paths_below_own(parse_cgroup_layout(kUnified), "x", "nonsense")->path, "/x");
}

TEST(CgroupPaths, MountsThatShowAPartOnly) {
  CgroupLayout layout = parse_cgroup_layout("1 1 0:1 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  EXPECT_EQ(cgroup_paths_below_own(layout, "x", "4:memory:/docker/abc\n")->folders.at("memory"), "/sys/fs/cgroup/memory/x");
  EXPECT_EQ(cgroup_paths_below_own(layout, "x", "4:memory:/docker/abc/sub\n")->folders.at("memory"), "/sys/fs/cgroup/memory/sub/x");
}

TEST(CgroupLayout, OfThisMachineHasItsOwnCgroup) {
  Result<CgroupLayout> layout = cgroup_layout();
  if (!layout.ok()) GTEST_SKIP() << layout.error().message();
  Result<std::string> own = own_cgroup(*layout);
  ASSERT_TRUE(own.ok()) << own.error().message();
  EXPECT_TRUE(own->starts_with("/"));
}

TEST(CgroupFiles, Numbers) {
  EXPECT_EQ(parse_cgroup_number("12\n"), 12u);
  EXPECT_EQ(parse_cgroup_number("max\n"), UINT64_MAX);
  EXPECT_EQ(parse_cgroup_number("-1"), std::nullopt);
  EXPECT_EQ(parse_cgroup_number(""), std::nullopt);
  EXPECT_EQ(parse_cgroup_number("1 2"), std::nullopt);
  EXPECT_EQ(parse_cgroup_number("99999999999999999999"), std::nullopt);
}

}  // namespace
}  // namespace caisson::host
