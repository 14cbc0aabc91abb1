#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "container/container_fixture.h"
#include "container/mount_plan.h"
#include "host/files.h"

namespace caisson::container::testing {
namespace {

class MountsTest : public ContainerTest {
 protected:
  void write(const std::string& path, const std::string& text) const {
    ASSERT_TRUE(host::mkdir_p(path.substr(0, path.rfind('/'))).ok());
    ASSERT_TRUE(host::write_file_atomic(path, text, 0644).ok());
  }
  std::string error_of(const oci::Spec& spec) {
    auto ended = run(spec);
    return ended ? "no error" : ended.error().message();
  }
};

TEST_F(MountsTest, DefaultMountsAndDevices) {
  const std::string out =
      output_of(shell_spec("while read -r dev at type rest; do echo $at:$type; done </proc/mounts | sort | uniq 2>/dev/null || sort;"
                           "stat -c '%n %F %t:%T %a' /dev/null /dev/tty /dev/urandom; for l in ptmx fd stdout; do readlink /dev/$l; done; "
                           "ls /sys/fs/cgroup | head -1 | wc -l"));
  for (const char* part : {"/proc:proc", "/dev:tmpfs", "/dev/pts:devpts", "/dev/shm:tmpfs", "/sys:sysfs", "/dev/mqueue:mqueue",
                           "/dev/null character special file 1:3 666", "/dev/tty character special file 5:0 666", "pts/ptmx\n",
                           "/proc/self/fd\n", "/proc/self/fd/1\n"})
    EXPECT_NE(out.find(part), std::string::npos) << part << " is missing in:\n" << out;
}

TEST_F(MountsTest, BindsFoldersAndFilesMakingTargets) {
  write(bundle() + "/data/hello", "folder");
  write(bundle() + "/single", "file");
  oci::Spec spec = shell_spec("cat /new/place/hello /etc/new/single; touch /ro/x 2>&1; touch /new/place/made");
  spec.mounts.push_back({.destination = "/new/place", .type = "bind", .source = bundle() + "/data", .options = {"rbind", "rw"}});
  spec.mounts.push_back(
      {.destination = "/etc/new/single", .type = "bind", .source = "single", .options = {"bind", "ro"}});  // relative to the bundle
  spec.mounts.push_back({.destination = "/ro", .type = "none", .source = bundle() + "/data", .options = {"rbind", "ro"}});
  const std::string out = output_of(spec);
  EXPECT_EQ(out.substr(0, 10), "folderfile");
  EXPECT_NE(out.find("Read-only file system"), std::string::npos) << out;
  EXPECT_EQ(access((bundle() + "/data/made").c_str(), F_OK), 0);
}

TEST_F(MountsTest, FlagsReachTheKernel) {
  oci::Spec spec = shell_spec("grep ' /m[0-9] ' /proc/mounts");
  ASSERT_TRUE(host::mkdir_p(bundle() + "/data").ok());
  spec.mounts.push_back({.destination = "/m1",
                         .type = "tmpfs",
                         .source = "one",
                         .options = {"nosuid", "nodev", "noexec", "ro", "noatime", "size=64k", "mode=700"}});
  spec.mounts.push_back(
      {.destination = "/m2", .type = "bind", .source = bundle() + "/data", .options = {"bind", "nosuid", "nodiratime", "nosymfollow"}});
  spec.mounts.push_back(
      {.destination = "/m3", .type = "tmpfs", .source = "three", .options = {"sync", "dirsync", "lazytime", "strictatime"}});
  spec.mounts.push_back(
      {.destination = "/m4", .type = "tmpfs", .source = "four", .options = {"ro", "rw", "noexec", "exec", "nodev", "nosuid"}});
  const std::string out = output_of(spec);
  EXPECT_NE(out.find("one /m1 tmpfs ro,nosuid,nodev,noexec,noatime,size=64k,mode=700"), std::string::npos) << out;
  EXPECT_NE(out.find("nosuid,nodiratime,relatime,nosymfollow"), std::string::npos) << out;
  EXPECT_NE(out.find("three /m3 tmpfs rw,sync,dirsync,lazytime"), std::string::npos) << out;
  EXPECT_NE(out.find("four /m4 tmpfs rw,nosuid,nodev,relatime"), std::string::npos) << out;
}

TEST_F(MountsTest, RecursiveAttributesReachMountsBelow) {
  // /dev below a bind of / would be the host's; use what the container itself has stacked: a tmpfs in a bound folder.
  oci::Spec spec = shell_spec("touch /b/below/x 2>&1; touch /c/below/y && echo written; grep -c '/b.* nosuid\\|/b.*,nosuid' /proc/mounts");
  ASSERT_TRUE(host::mkdir_p(bundle() + "/data/below").ok());
  ASSERT_EQ(mount("inner", (bundle() + "/data/below").c_str(), "tmpfs", 0, nullptr), 0);
  spec.mounts.push_back({.destination = "/b", .type = "bind", .source = bundle() + "/data", .options = {"rbind", "rro", "rnosuid"}});
  spec.mounts.push_back({.destination = "/c", .type = "bind", .source = bundle() + "/data", .options = {"rbind", "ro"}});
  const std::string out = output_of(spec);
  umount2((bundle() + "/data/below").c_str(), MNT_DETACH);
  EXPECT_NE(out.find("Read-only file system"), std::string::npos) << out;
  EXPECT_NE(out.find("written"), std::string::npos) << "ro is for the bind alone, not for what is mounted below: " << out;
}

TEST_F(MountsTest, PropagationOptions) {
  oci::Spec spec = shell_spec("while read -r a b c d at rest; do case $at in /p*) echo $at $rest;; esac; done </proc/self/mountinfo");
  for (const char* type : {"shared", "rprivate", "slave", "unbindable"}) {
    ASSERT_TRUE(host::mkdir_p(bundle() + "/data").ok());
    spec.mounts.push_back({.destination = std::string("/p-") + type, .type = "tmpfs", .source = "tmpfs", .options = {type}});
  }
  const std::string out = output_of(spec);
  EXPECT_NE(out.find("/p-shared rw,relatime shared:"), std::string::npos) << out;
  EXPECT_NE(out.find("/p-rprivate rw,relatime - "), std::string::npos) << out;
  EXPECT_NE(out.find("/p-unbindable rw,relatime unbindable - "), std::string::npos) << out;
}

TEST_F(MountsTest, TmpCopyUp) {
  write(rootfs() + "/conf/a", "text");
  write(rootfs() + "/conf/sub/b", "deep");
  ASSERT_EQ(symlink("a", (rootfs() + "/conf/link").c_str()), 0);
  ASSERT_EQ(chown((rootfs() + "/conf/a").c_str(), 12, 34), 0);
  ASSERT_EQ(chmod((rootfs() + "/conf/a").c_str(), 04755), 0);
  oci::Spec spec = shell_spec(
      "cat /conf/a /conf/sub/b /conf/link; stat -c ' %u:%g %a' /conf/a; grep -c '/conf tmpfs' /proc/mounts; touch /conf/new 2>&1");
  spec.mounts.push_back({.destination = "/conf", .type = "tmpfs", .source = "tmpfs", .options = {"tmpcopyup", "ro"}});
  auto ended = run(spec);
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->out.substr(0, ended->out.find("touch")), "textdeeptext 12:34 4755\n1\n");
  EXPECT_NE(ended->out.find("Read-only"), std::string::npos);
  EXPECT_NE(access((rootfs() + "/conf/new").c_str(), F_OK), 0);
}

TEST_F(MountsTest, TmpfsTakesTheModeOfWhatItCovers) {
  ASSERT_TRUE(host::mkdir_p(rootfs() + "/private").ok());
  ASSERT_EQ(chmod((rootfs() + "/private").c_str(), 0750), 0);
  oci::Spec spec = shell_spec("stat -c %a /private /fresh");
  spec.mounts.push_back({.destination = "/private", .type = "tmpfs", .source = "tmpfs"});
  spec.mounts.push_back({.destination = "/fresh", .type = "tmpfs", .source = "tmpfs"});
  EXPECT_EQ(output_of(spec), "750\n1777\n");
}

TEST_F(MountsTest, IdMappedBind) {
  write(bundle() + "/data/file", "x");
  ASSERT_EQ(chown((bundle() + "/data/file").c_str(), 1000, 1000), 0);
  oci::Spec spec = shell_spec("stat -c %u:%g /mapped/file");
  spec.mounts.push_back({.destination = "/mapped",
                         .type = "bind",
                         .source = bundle() + "/data",
                         .options = {"rbind", "ridmap"},
                         .uid_mappings = {{0, 5000, 1}, {1000, 5001, 1}},
                         .gid_mappings = {{0, 5000, 1}, {1000, 5001, 1}}});
  const std::string out = output_of(spec);
  // containerID is the file's id, hostID the one that the mount shows.
  EXPECT_EQ(out.substr(0, 10), "5001:5001\n") << out;
}

TEST_F(MountsTest, OverlayWithLongOptions) {
  std::string lower;
  for (int index = 0; index < 6; ++index) {
    const std::string folder = fmt::format("{}/layers/{}-{}", bundle(), std::string(60, 'x'), index);
    write(folder + "/file" + std::to_string(index), "layer");
    lower += (lower.empty() ? "" : ":") + folder;
  }
  ASSERT_GT(lower.size(), 255u);
  ASSERT_TRUE(host::mkdir_p(bundle() + "/upper").ok() && host::mkdir_p(bundle() + "/work").ok());
  oci::Spec spec = shell_spec("ls /over; echo changed > /over/file0");
  spec.mounts.push_back({.destination = "/over",
                         .type = "overlay",
                         .source = "overlay",
                         .options = {"lowerdir=" + lower, "upperdir=" + bundle() + "/upper", "workdir=" + bundle() + "/work", "nosuid"}});
  EXPECT_EQ(output_of(spec), "file0\nfile1\nfile2\nfile3\nfile4\nfile5\n");
  EXPECT_EQ(host::read_file(bundle() + "/upper/file0").value(), "changed\n");
}

TEST_F(MountsTest, ReadOnlyRootMaskedAndReadOnlyPaths) {
  write(rootfs() + "/secret/file", "secret");
  write(rootfs() + "/hidden", "hidden");
  write(rootfs() + "/fixed/file", "fixed");
  oci::Spec spec =
      shell_spec("cat /hidden; ls /secret; touch /fixed/x /x 2>&1; cat /fixed/file; touch /tmp2/ok && echo ok; cat /proc/timer_list 2>&1");
  spec.linux_.masked_paths.insert(spec.linux_.masked_paths.end(), {"/secret", "/hidden", "/not/there", "/hidden/below"});
  spec.linux_.readonly_paths.insert(spec.linux_.readonly_paths.end(), {"/fixed", "/not/there/either"});
  spec.root.readonly = true;
  spec.mounts.push_back({.destination = "/tmp2", .type = "tmpfs", .source = "tmpfs"});
  const std::string out = output_of(spec);
  EXPECT_EQ(out, "touch: /fixed/x: Read-only file system\ntouch: /x: Read-only file system\nfixedok\n") << out;
}

TEST_F(MountsTest, CgroupMountShowsTheOwnCgroup) {
  const std::string out =
      output_of(shell_spec("cat /proc/self/cgroup | head -3; ls /sys/fs/cgroup; cat /sys/fs/cgroup/memory/cgroup.procs 2>/dev/null || cat "
                           "/sys/fs/cgroup/cgroup.procs; touch /sys/fs/cgroup/x 2>&1; true"));
  EXPECT_NE(out.find(":/\n"), std::string::npos) << "the cgroup namespace starts at the container's own cgroup:\n" << out;
  EXPECT_NE(out.find("\n1\n"), std::string::npos) << out;
  EXPECT_NE(out.find("Read-only"), std::string::npos) << out;
}

TEST_F(MountsTest, CgroupMountWithoutNamespaceBindsTheOwnFolder) {
  if (access("/sys/fs/cgroup/memory", F_OK) != 0) GTEST_SKIP() << "this host has no cgroup version 1";
  oci::Spec spec = shell_spec("cat /sys/fs/cgroup/memory/cgroup.procs 2>/dev/null | wc -l; grep memory /proc/self/mountinfo");
  std::erase_if(spec.linux_.namespaces, [](const oci::Namespace& ns) { return ns.type == "cgroup"; });
  const std::string out = output_of(spec);
  EXPECT_NE(out.find(spec.linux_.cgroups_path + " /sys/fs/cgroup/memory ro,"), std::string::npos) << out;
}

TEST_F(MountsTest, ErrorsNameTheMount) {
  oci::Spec spec = shell_spec("true");
  const size_t index = spec.mounts.size();
  const std::string prefix = fmt::format("mounts[{}] ", index);
  spec.mounts.push_back({.destination = "/x", .type = "bind", .source = "/not/there", .options = {"bind"}});
  EXPECT_EQ(error_of(spec), prefix + "(/x, source /not/there): cannot bind /not/there: No such file or directory");
  spec.mounts[index] = {.destination = "/x", .type = "nonesuch", .source = "none"};
  EXPECT_EQ(error_of(spec), prefix + "(/x): this kernel has no file system \"nonesuch\"");
  spec.mounts[index] = {.destination = "/x", .type = "tmpfs", .source = "tmpfs", .options = {"sizzle=3"}};
  EXPECT_NE(error_of(spec).find(prefix + "(/x): file system tmpfs does not take option \"sizzle=3\""), std::string::npos);
  spec.mounts[index] = {.destination = "/", .type = "tmpfs", .source = "tmpfs"};
  EXPECT_NE(error_of(spec).find("cannot cover the container's root"), std::string::npos);
  spec.mounts[index] = {.destination = "/proc/sys/kernel", .type = "tmpfs", .source = "tmpfs"};
  EXPECT_NE(error_of(spec).find("is inside /proc"), std::string::npos);
}

// What a hostile image can do with symbolic links in its root file system.
class HostileRootTest : public MountsTest {
 protected:
  void SetUp() override {
    MountsTest::SetUp();
    if (IsSkipped()) return;
    outside_ = bundle() + "/outside";
    ASSERT_TRUE(host::mkdir_p(outside_).ok());
  }
  void TearDown() override {
    // remove_tree() of the fixture would remove it too: look before.
    EXPECT_EQ(rmdir(outside_.c_str()), 0) << "something was made outside the root file system";
    MountsTest::TearDown();
  }
  void replace_by_link(const std::string& path, const std::string& target) {
    (void)host::remove_tree(rootfs() + path);
    ASSERT_EQ(symlink(target.c_str(), (rootfs() + path).c_str()), 0);
  }
  std::string outside_;
};

TEST_F(HostileRootTest, DevIsALinkToTheHost) {
  replace_by_link("/dev", outside_);
  auto ended = run(shell_spec("echo > /dev/null && echo fine"));
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->out, "fine\n");
}

TEST_F(HostileRootTest, ProcAndSysMustBeRealFolders) {
  replace_by_link("/proc", outside_);
  EXPECT_NE(error_of(shell_spec("true")).find("not through symbolic links"), std::string::npos);
  (void)host::remove_tree(rootfs() + "/proc");
  replace_by_link("/sys", "../../../../../../" + outside_);
  EXPECT_NE(error_of(shell_spec("true")).find("not through symbolic links"), std::string::npos);
}

TEST_F(HostileRootTest, TargetsThroughLinksStayInside) {
  replace_by_link("/etc/link", "../../../../../../../.." + outside_);
  replace_by_link("/abs", outside_);
  replace_by_link("/self", "/proc/self/root");
  write(bundle() + "/source", "text");
  oci::Spec spec = shell_spec("cat " + outside_ + "/one/file " + outside_ + "/two");
  spec.mounts.insert(spec.mounts.begin(),
                     {.destination = "/etc/link/one/file", .type = "bind", .source = bundle() + "/source", .options = {"bind"}});
  spec.mounts.insert(spec.mounts.begin(),
                     {.destination = "/self" + outside_ + "/two", .type = "bind", .source = bundle() + "/source", .options = {"bind"}});
  spec.mounts.insert(spec.mounts.begin(), {.destination = "/abs/three", .type = "tmpfs", .source = "tmpfs"});
  auto ended = run(spec);
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->out, "text") << ended->err;  // "/self" leads into an empty /proc of the image at that moment
}

TEST_F(HostileRootTest, NodesLinksAndWorkingFolderStayInside) {
  oci::Spec spec = shell_spec("pwd");
  std::erase_if(spec.mounts, [](const oci::Mount& mount) { return mount.destination.starts_with("/dev"); });
  replace_by_link("/dev", outside_ + "/dev");
  replace_by_link("/work", outside_ + "/work");
  spec.process.cwd = "/work";
  spec.linux_.devices.push_back({.path = "/work/../node", .type = "c", .major = 1, .minor = 3});
  auto ended = run(spec);
  ASSERT_TRUE(ended.ok()) << ended.error().message();
  EXPECT_EQ(ended->out, outside_ + "/work\n");
  struct stat info;
  EXPECT_EQ(stat((rootfs() + outside_ + "/dev/null").c_str(), &info), 0) << "made where the link leads inside the root";
}

TEST_F(HostileRootTest, MaskedPathsThroughLinksHideNothingOfTheHost) {
  write(bundle() + "/victim", "victim");
  replace_by_link("/masked", bundle() + "/victim");
  write(rootfs() + bundle() + "/victim", "inner");
  oci::Spec spec = shell_spec("cat /masked");
  spec.linux_.masked_paths = {"/masked"};
  spec.linux_.readonly_paths = {"/masked"};
  EXPECT_EQ(output_of(spec), "");
  EXPECT_EQ(host::read_file(bundle() + "/victim").value(), "victim");
}

TEST_F(HostileRootTest, WorkingFolderOutsideIsRefused) {
  // CVE-2024-21626: a descriptor of the runtime that leads to the host.
  for (int fd = 3; fd < 20; ++fd) {
    oci::Spec spec = shell_spec("pwd; cat ../../../../etc/hostname ../../../../etc/shadow");
    spec.process.cwd = fmt::format("/proc/self/fd/{}", fd);
    auto ended = run(spec);
    if (ended)
      EXPECT_EQ(ended->out, "/\n") << "descriptor " << fd << " leads out: " << ended->out;
    else
      EXPECT_NE(ended.error().message().find("process.cwd"), std::string::npos) << ended.error().message();
  }
}

TEST(MountPlanTest, LastOptionCounts) {
  MountPlan plan = plan_mount({.destination = "/x",
                               .type = "bind",
                               .source = "/y",
                               .options = {"rbind", "ro", "rw", "nosuid", "rprivate", "rslave", "rro", "rrw", "size=1"}});
  EXPECT_TRUE(plan.bind);
  EXPECT_TRUE(plan.recursive);
  EXPECT_EQ(plan.set, static_cast<uint64_t>(MOUNT_ATTR_NOSUID));
  EXPECT_EQ(plan.clear, static_cast<uint64_t>(MOUNT_ATTR_RDONLY));
  EXPECT_EQ(plan.recursive_set, 0u);
  EXPECT_EQ(plan.recursive_clear, static_cast<uint64_t>(MOUNT_ATTR_RDONLY));
  EXPECT_EQ(plan.propagation, static_cast<uint64_t>(MS_SLAVE));
  EXPECT_TRUE(plan.propagation_recursive);
  EXPECT_EQ(plan.parameters, std::vector<std::string>{"size=1"});
}

}  // namespace
}  // namespace caisson::container::testing
