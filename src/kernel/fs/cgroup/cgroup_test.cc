// Rules of the tree that tests/guest/syscalls/cgroup.cc cannot have everywhere: they need controllers.
#include "kernel/task/cgroup.h"

#include "kernel/fs/cgroup/cgroup_fs.h"
#include "kernel/fs/common/test_kernel.h"

namespace caisson::kernel {
namespace {

class Cgroups : public TestKernel {
 protected:
  void SetUp() override {
    TestKernel::SetUp();
    ASSERT_TRUE(mount_in_container(*task, "/groups", "cgroup2", "cgroup2", ""));
  }
  void TearDown() override {
    container.pids->groups.clear();
    TestKernel::TearDown();
  }

  Result<void> put(const std::string& path, std::string_view text) {
    const FileRef file = open("/groups/" + path, O_WRONLY);
    Result<size_t> written = write(file, text);
    return written ? Result<void>() : written.error();
  }
  Result<void> make(const std::string& path) {
    const size_t slash = path.rfind('/');
    const Path folder = *walk(*task, AT_FDCWD, "/groups/" + (slash == path.npos ? "" : path.substr(0, slash)));
    Result<InodeRef> made = folder.inode()->make(*task, path.substr(slash == path.npos ? 0 : slash + 1), S_IFDIR | 0755, 0);
    return made ? Result<void>() : made.error();
  }
  // A process without a host's: only its place counts.
  std::shared_ptr<ThreadGroup> process(pid_t pid, CgroupRef group = nullptr) {
    auto made = std::make_shared<ThreadGroup>();
    std::lock_guard guard(kernel->tasks);
    made->pids = container.pids;
    made->container = &container;
    made->id = *TaskId::create(container.pids);
    made->pid = pid;
    container.pids->groups[pid] = made;
    enter_cgroup_locked(*made, group ? group : container.groups);
    count_tasks_locked(*made, 1);
    return made;
  }
  void end(const std::shared_ptr<ThreadGroup>& process) {
    std::lock_guard guard(kernel->tasks);
    count_tasks_locked(*process, -1);
    leave_cgroup_locked(*process);
    process->zombie = true;
  }
};

TEST_F(Cgroups, NoInternalProcesses) {
  ASSERT_TRUE(make("a"));
  const auto first = process(100);
  EXPECT_EQ(put("cgroup.subtree_control", "+memory").error(), Errno(EBUSY));
  EXPECT_TRUE(put("a/cgroup.procs", "100"));
  EXPECT_TRUE(put("cgroup.subtree_control", "+memory"));
  EXPECT_EQ(content("/groups/cgroup.subtree_control"), "memory\n");
  EXPECT_EQ(content("/groups/a/cgroup.controllers"), "memory\n");
  EXPECT_EQ(put("cgroup.procs", "100").error(), Errno(EBUSY));
  EXPECT_TRUE(put("cgroup.subtree_control", "-memory"));
  EXPECT_EQ(content("/groups/cgroup.subtree_control"), "");
  EXPECT_TRUE(put("cgroup.procs", "100"));
  end(first);
}

TEST_F(Cgroups, ControllersThatNobodyCouldKeepAreRefused) {
  EXPECT_EQ(content("/groups/cgroup.controllers"), "cpuset cpu memory pids\n");
  EXPECT_EQ(put("cgroup.subtree_control", "+cpu").error(), Errno(EOPNOTSUPP));
  EXPECT_EQ(put("cgroup.subtree_control", "+pids +cpuset").error(), Errno(EOPNOTSUPP));
  EXPECT_EQ(put("cgroup.subtree_control", "+io").error(), Errno(EINVAL));
  ASSERT_TRUE(make("a"));
  EXPECT_TRUE(put("cgroup.subtree_control", "+pids"));
  EXPECT_TRUE(put("a/cgroup.subtree_control", "+pids"));
  EXPECT_EQ(put("cgroup.subtree_control", "-pids").error(), Errno(EBUSY));
  EXPECT_EQ(put("a/cgroup.subtree_control", "+memory").error(), Errno(ENOENT));
}

TEST_F(Cgroups, TheContainersOwnLimitsAreNotTheGuestsToChange) {
  EXPECT_EQ(put("pids.max", "5").error(), Errno(EPERM));
  EXPECT_EQ(put("cgroup.freeze", "1").error(), Errno(EPERM));
  EXPECT_EQ(put("cgroup.kill", "1").error(), Errno(EPERM));
  EXPECT_EQ(put("memory.max", "1").error(), Errno(EINVAL));
}

TEST_F(Cgroups, PidsCountAboveToo) {
  ASSERT_TRUE(put("cgroup.subtree_control", "+pids"));
  ASSERT_TRUE(make("a"));
  ASSERT_TRUE(put("a/cgroup.subtree_control", "+pids"));
  ASSERT_TRUE(make("a/b"));
  ASSERT_TRUE(put("a/pids.max", "2"));
  const CgroupRef group = container.groups->children.at("a")->children.at("b");
  const auto one = process(100, group), two = process(200, group);
  EXPECT_EQ(content("/groups/a/pids.current"), "2\n");
  EXPECT_EQ(content("/groups/pids.current"), "2\n");
  {
    std::lock_guard guard(kernel->tasks);
    EXPECT_EQ(may_fork_locked(*one->cgroup).error(), Errno(EAGAIN));
  }
  EXPECT_EQ(content("/groups/a/pids.events"), "max 1\n");
  EXPECT_EQ(content("/groups/a/b/pids.events"), "max 0\n");
  end(two);
  {
    std::lock_guard guard(kernel->tasks);
    EXPECT_TRUE(may_fork_locked(*one->cgroup));
  }
  EXPECT_EQ(content("/groups/a/cgroup.events"), "populated 1\nfrozen 0\n");
  end(one);
  EXPECT_EQ(content("/groups/a/cgroup.events"), "populated 0\nfrozen 0\n");
  EXPECT_EQ(content("/groups/pids.current"), "0\n");
}

TEST_F(Cgroups, NobodyMakesThemWithoutEnd) {
  std::string path = "d";
  for (size_t depth = 1; depth <= Cgroup::kDeepest; ++depth, path += "/d") ASSERT_TRUE(make(path)) << depth;
  EXPECT_EQ(make(path).error(), Errno(EAGAIN));
  const uint64_t before = container.held->used();
  Errno error(0);
  size_t made = Cgroup::kDeepest;
  for (; made <= Cgroup::kMostGroups; ++made)
    if (Result<void> one = make("g" + std::to_string(made)); !one) {
      error = one.error();
      break;
    }
  EXPECT_EQ(made, Cgroup::kMostGroups);
  EXPECT_EQ(error, Errno(EAGAIN));
  EXPECT_EQ(container.held->used(), before);  // the setup task is no container's
}

}  // namespace
}  // namespace caisson::kernel
