// How the root file system is entered, and what of that the host sees: rootfsPropagation, pivot_root and its alternatives.
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <sstream>

#include "container/container_fixture.h"
#include "host/files.h"

namespace caisson::container::testing {
namespace {

using RootTest = ContainerTest;

TEST_F(RootTest, RootfsPropagation) {
  oci::Spec spec = shell_spec("while read -r a b c d at rest; do [ $at = / ] && echo $rest; done </proc/self/mountinfo; true");
  EXPECT_EQ(output_of(spec).find("shared:"), std::string::npos);
  for (const char* type : {"shared", "rshared"}) {
    spec.linux_.rootfs_propagation = type;
    EXPECT_NE(output_of(spec).find("shared:"), std::string::npos) << type;
  }
  for (const char* type : {"private", "rprivate", "slave", "rslave"}) {
    spec.linux_.rootfs_propagation = type;
    EXPECT_EQ(output_of(spec).find("shared:"), std::string::npos) << type;
  }
  spec.linux_.rootfs_propagation = "unbindable";
  EXPECT_NE(output_of(spec).find("unbindable"), std::string::npos);
}

// The host's mounts at and below a folder; others come and go on a machine that others use.
std::string mounts_below(const std::string& folder) {
  std::string found, line;
  std::istringstream table(host::read_file("/proc/self/mountinfo").value());
  while (std::getline(table, line))
    if (line.find(folder) != line.npos) found += line + "\n";
  return found;
}

TEST_F(RootTest, NoMountReachesTheHost) {
  (void)output_of(shell_spec("true"));
  oci::Spec shared = shell_spec("true");
  shared.linux_.rootfs_propagation = "shared";
  (void)output_of(shared);
  EXPECT_EQ(mounts_below(bundle()), "");
}

TEST_F(RootTest, NoMountReachesASharedMountOfTheHost) {
  const std::string folder = bundle() + "/shared";
  ASSERT_TRUE(host::mkdir_p(folder).ok());
  ASSERT_EQ(mount("caisson-test", folder.c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_EQ(mount(nullptr, folder.c_str(), nullptr, MS_SHARED, nullptr), 0);
  ASSERT_EQ(system(fmt::format("cp -a {} {}/", rootfs(), folder).c_str()), 0);
  const std::string before = mounts_below(bundle());
  for (const char* propagation : {"", "rslave", "private"}) {
    oci::Spec spec = shell_spec("cat /proc/self/mountinfo");
    spec.root.path = folder + "/rootfs";
    spec.linux_.rootfs_propagation = propagation;
    const std::string inside = output_of(spec);
    EXPECT_EQ(inside.find("shared:"), std::string::npos) << propagation << inside;
    EXPECT_EQ(mounts_below(bundle()), before) << propagation;
  }
  for (const char* propagation : {"shared", "rshared"}) {
    oci::Spec spec = shell_spec("true");
    spec.root.path = folder + "/rootfs";
    spec.linux_.rootfs_propagation = propagation;
    ASSERT_TRUE(create(spec).ok());
    EXPECT_EQ(mounts_below(bundle()), before) << propagation;
    ASSERT_TRUE(start(spec).ok());
    EXPECT_EQ(wait().status, 0);
    ASSERT_TRUE(destroy(&spec).ok());
    EXPECT_EQ(mounts_below(bundle()), before) << propagation;
  }
  // Asked for, mounts of the host do come in.
  oci::Spec spec = shell_spec("sleep 100");
  spec.root.path = folder + "/rootfs";
  spec.linux_.rootfs_propagation = "rslave";
  ASSERT_TRUE(create(spec).ok());
  ASSERT_TRUE(start(spec).ok());
  ASSERT_EQ(mount("late", (folder + "/rootfs/tmp").c_str(), "tmpfs", 0, nullptr), 0);
  auto ended = exec(spec, shell_process(spec, "grep -c '^late /tmp tmpfs' /proc/mounts"));
  umount2((folder + "/rootfs/tmp").c_str(), MNT_DETACH);
  umount2(folder.c_str(), MNT_DETACH);
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->out, "1\n");
}

TEST_F(RootTest, NoPivot) {
  oci::Spec spec = shell_spec("ls /; test -e /host-file || echo hidden; sleep 1");
  ASSERT_TRUE(host::write_file_atomic(bundle() + "/host-file", "").ok());
  auto ended = run(spec, {.no_pivot = true});
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->out, "bin\ndev\netc\nproc\nroot\nsys\ntmp\nhidden\n");
}

TEST_F(RootTest, NoPivotExecSeesTheContainer) {
  const oci::Spec spec = shell_spec("sleep 100");
  ASSERT_TRUE(create(spec, {.no_pivot = true}).ok());
  ASSERT_TRUE(start(spec).ok());
  auto ended = exec(spec, shell_process(spec, "ls /; ls /bin | grep -c busybox"));
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->out, "bin\ndev\netc\nproc\nroot\nsys\ntmp\n1\n");
}

TEST_F(RootTest, WithoutAMountNamespaceOnlyChroot) {
  oci::Spec spec = shell_spec("ls /; pwd");
  std::erase_if(spec.linux_.namespaces, [](const oci::Namespace& ns) { return ns.type == "mount"; });
  auto refused = run(spec);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message().find("mounts: need a namespace of type mount"), std::string::npos);
  spec.mounts.clear();
  spec.linux_.masked_paths.clear();
  spec.linux_.readonly_paths.clear();
  const std::string before = mounts_below(bundle());
  EXPECT_EQ(output_of(spec), "bin\ndev\netc\nproc\nroot\nsys\ntmp\n/\n");
  spec.process.args = {"/bin/sleep", "100"};
  ASSERT_TRUE(create(spec).ok());
  ASSERT_TRUE(start(spec).ok());
  auto ended = exec(spec, shell_process(spec, "ls /"));
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->out, "bin\ndev\netc\nproc\nroot\nsys\ntmp\n");
  EXPECT_EQ(mounts_below(bundle()), before);
}

}  // namespace
}  // namespace caisson::container::testing
