#include "sandbox/leftovers.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/files.h"
#include "sandbox/context.h"

namespace caisson::sandbox {
namespace {

class LeftoversTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "caisson-leftovers-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { EXPECT_TRUE(host::remove_tree(dir_).ok()); }
  std::string dir_;
};

TEST_F(LeftoversTest, SavedAndLoaded) {
  Leftovers leftovers;
  leftovers.processes = {{123, 456}, {7, 1ull << 60}};
  leftovers.cgroups = {{host::CgroupVersion::V1, "/x", {{"memory", "/sys/fs/cgroup/memory/x"}, {"", "/u/x"}}}};
  leftovers.mounts = {"/a b", "/c\"d"};
  leftovers.folders = {"/e"};
  leftovers.interfaces = {"tap0"};
  ASSERT_TRUE(save_leftovers(dir_, "vm", leftovers).ok());
  auto loaded = load_leftovers(dir_ + "/vm.leftovers.json");
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  ASSERT_EQ(loaded->processes.size(), 2u);
  EXPECT_EQ(loaded->processes[1].start_time, 1ull << 60);
  EXPECT_EQ(loaded->cgroups[0].version, host::CgroupVersion::V1);
  EXPECT_EQ(loaded->cgroups[0].folders, leftovers.cgroups[0].folders);
  EXPECT_EQ(loaded->mounts, leftovers.mounts);
  EXPECT_EQ(loaded->folders, leftovers.folders);
  EXPECT_EQ(loaded->interfaces, leftovers.interfaces);
}

TEST_F(LeftoversTest, BrokenFilesAreErrors) {
  for (const char* text :
       {"", "{", "[]", R"({"processes":[{"pid":"x"}]})", R"({"processes":[],"cgroups":[{}],"mounts":[],"folders":[],"interfaces":[]})"}) {
    ASSERT_TRUE(host::write_file_atomic(dir_ + "/x.leftovers.json", text).ok());
    auto loaded = load_leftovers(dir_ + "/x.leftovers.json");
    ASSERT_FALSE(loaded.ok()) << text;
    EXPECT_EQ(loaded.error().code(), EBADMSG);
  }
}

TEST_F(LeftoversTest, IdentityTellsAReusedPid) {
  ProcessIdentity self{getpid(), *process_start_time(getpid())};
  EXPECT_TRUE(is_alive(self));
  ++self.start_time;
  EXPECT_FALSE(is_alive(self));
  EXPECT_FALSE(is_alive({}));
}

TEST_F(LeftoversTest, LockHasAHolder) {
  EXPECT_EQ(*lock_holder(dir_), 0);
  int ready[2], stay[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(stay), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(stay[1]);
    auto lock = take_lock(dir_);
    char byte = lock ? 'y' : 'n';
    (void)!write(ready[1], &byte, 1);
    (void)!read(stay[0], &byte, 1);
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'y');
  EXPECT_EQ(*lock_holder(dir_), child);
  EXPECT_EQ(take_lock(dir_).error().code(), EBUSY);
  // Who serves a folder is killed before it is freed; a dead process's lock is nobody's.
  ASSERT_TRUE(host::mkdir_p(dir_ + "/keep").ok());
  EXPECT_TRUE(free_sandbox_folder(dir_).ok());
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_NE(access(dir_.c_str(), F_OK), 0);
  for (int fd : {ready[0], ready[1], stay[0], stay[1]}) close(fd);
}

TEST_F(LeftoversTest, FreesProcessesMountsAndFolders) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
  const std::string sandbox = dir_ + "/sandbox", other = dir_ + "/other";
  ASSERT_TRUE(host::mkdir_p(sandbox + "/mnt").ok());
  ASSERT_TRUE(host::mkdir_p(other + "/deep").ok());
  ASSERT_TRUE(host::mkdir_p(dir_ + "/precious").ok());
  ASSERT_TRUE(host::write_file_atomic(dir_ + "/precious/file", "x").ok());
  const pid_t victim = fork();
  if (victim == 0) {
    pause();
    _exit(0);
  }
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) _exit(100);
    // Mounts that no file names, one on top of the other, with a blank in the name.
    const std::string point = sandbox + "/with blank";
    if (mkdir(point.c_str(), 0700) != 0) _exit(101);
    for (const std::string& target : {point, point, sandbox + "/mnt"})
      if (mount((dir_ + "/precious").c_str(), target.c_str(), nullptr, MS_BIND, nullptr) != 0) _exit(102);
    auto start = process_start_time(victim);
    Leftovers leftovers{.processes = {{victim, *start}, {getpid(), 1}},
                        .cgroups = {},
                        .mounts = {sandbox + "/mnt", "/absent"},
                        .folders = {other},
                        .interfaces = {"caisson-none"}};
    if (!save_leftovers(sandbox, "vm", leftovers)) _exit(103);
    auto freed = free_sandbox_folder(sandbox);
    if (!freed) fprintf(stderr, "%s\n", freed.error().message().c_str());
    _exit(freed ? 0 : 104);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0) << "the second process has the number of another: it must live";
  ASSERT_EQ(waitpid(victim, &status, 0), victim);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_NE(access(sandbox.c_str(), F_OK), 0);
  EXPECT_NE(access(other.c_str(), F_OK), 0);
  EXPECT_EQ(access((dir_ + "/precious/file").c_str(), F_OK), 0);
  EXPECT_TRUE(free_sandbox_folder(sandbox).ok());
}

TEST(ContextTest, GoesThereAndBack) {
  SandboxContext context{.dir = "/run/caisson/x",
                         .id = "x",
                         .isolation = "microvm",
                         .config = {},
                         .log_path = "/l",
                         .log_json = true,
                         .debug = true,
                         .keep = true};
  context.config.microvm.default_memory_mib = 512;
  auto copy = context_from_json(context_to_json(context));
  ASSERT_TRUE(copy.ok()) << copy.error().message();
  EXPECT_EQ(copy->dir, context.dir);
  EXPECT_EQ(copy->id, context.id);
  EXPECT_EQ(copy->isolation, context.isolation);
  EXPECT_EQ(copy->config.microvm.default_memory_mib, 512u);
  EXPECT_EQ(copy->log_path, context.log_path);
  EXPECT_TRUE(copy->log_json && copy->debug && copy->keep);
  for (const char* text : {"", "{}", "[1]", R"({"dir":5})"}) EXPECT_EQ(context_from_json(text).error().code(), EBADMSG) << text;
}

}  // namespace
}  // namespace caisson::sandbox
