#include "container/cgroup_path.h"

#include <gtest/gtest.h>

#include "container/container.h"

namespace caisson::container {
namespace {

std::string located(const std::string& path, bool systemd) {
  Result<CgroupLocation> location = locate_cgroup(path, "web", systemd);
  return location.ok() ? (location->below_own ? "own" : "") + location->path : location.error().message();
}

TEST(CgroupPath, PlainForms) {
  EXPECT_EQ(located("/machine/x", false), "/machine/x");
  EXPECT_EQ(located("machine/x", false), "own/machine/x");
  EXPECT_EQ(located("", false), "own/web");
  EXPECT_EQ(located("/../../x/./y", false), "/x/y");
  EXPECT_EQ(located("../x", false), "own/x");
  EXPECT_EQ(located("a:b:c", false), "own/a:b:c");  // literally, as runc without --systemd-cgroup
}

TEST(CgroupPath, TheRootIsRefusedByName) {
  for (const char* path : {"/", "/a/..", "..", "."}) EXPECT_TRUE(located(path, false).starts_with("linux.cgroupsPath")) << path;
  EXPECT_TRUE(located(std::string("/a\nb"), false).starts_with("linux.cgroupsPath"));
}

TEST(CgroupPath, SystemdForms) {
  EXPECT_EQ(located("machine.slice:libpod:abc", true), "/machine.slice/libpod-abc.scope");
  EXPECT_EQ(located("a-b-c.slice:p:n", true), "/a.slice/a-b.slice/a-b-c.slice/p-n.scope");
  EXPECT_EQ(located("-.slice:p:n", true), "/p-n.scope");
  EXPECT_EQ(located(":p:n", true), "/system.slice/p-n.scope");
  EXPECT_EQ(located("a.slice::n", true), "/a.slice/n.scope");
  EXPECT_EQ(located("a.slice:p:n.slice", true), "/a.slice/n.slice");
  EXPECT_EQ(located("", true), "/system.slice/caisson-web.scope");
}

TEST(CgroupPath, BadSystemdForms) {
  for (const char* path : {"/machine/x", "a.slice:b", "a.slice:b:c:d", "a:b:c", "a--b.slice:p:n", "a-.slice:p:n", "-a.slice:p:n",
                           ".slice:p:n", "a/b.slice:p:n", "a.slice:p/q:n", "a.slice:p:../n", "a.slice:p:"})
    EXPECT_TRUE(located(path, true).starts_with("linux.cgroupsPath")) << path << " -> " << located(path, true);
}

TEST(CgroupPath, PlanHasFoldersForEveryHierarchy) {
  oci::Spec spec;
  spec.linux_.cgroups_path = "/caisson-plan/x";
  Result<host::CgroupPaths> plan = plan_cgroup(spec, "x", false);
  if (!plan.ok() && plan.error().code() == ENOENT) GTEST_SKIP() << plan.error().message();
  ASSERT_TRUE(plan.ok()) << plan.error().message();
  EXPECT_EQ(plan->path, "/caisson-plan/x");
  for (const auto& [controller, folder] : plan->folders) EXPECT_TRUE(folder.ends_with("/caisson-plan/x")) << folder;
  EXPECT_FALSE(plan->folders.empty());
}

}  // namespace
}  // namespace caisson::container
