// Against a folder tree that looks like v2 (no node here has a full one), and against this machine's real hierarchies.
#include "host/cgroup.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "host/cgroup_files.h"

namespace caisson::host {
namespace {

namespace fs = std::filesystem;

class FakeV2 : public ::testing::Test {
 protected:
  FakeV2() {
    char name[] = "/tmp/caisson-cgroup-XXXXXX";
    root_ = mkdtemp(name);
    paths_ = CgroupPaths{CgroupVersion::V2, "/a/b", {{"", root_ + "/a/b"}}};
  }
  ~FakeV2() override { fs::remove_all(root_); }
  void put(const std::string& file, const std::string& text) {
    fs::create_directories(fs::path(root_ + "/" + file).parent_path());
    std::ofstream(root_ + "/" + file) << text;
  }
  std::string get(const std::string& file) {
    std::ifstream in(root_ + "/" + file);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  std::string root_;
  CgroupPaths paths_;
};

TEST_F(FakeV2, CreateEnablesWhatIsAvailableAndNotYetEnabledOnTheWay) {
  put("cgroup.controllers", "cpu memory pids\n");
  put("cgroup.subtree_control", "memory\n");
  put("a/cgroup.controllers", "memory\n");
  put("a/cgroup.subtree_control", "\n");
  Result<void> made = create_cgroup(paths_);
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_EQ(get("cgroup.subtree_control"), "+cpu +pids");
  EXPECT_EQ(get("a/cgroup.subtree_control"), "+memory");
  EXPECT_TRUE(fs::is_directory(root_ + "/a/b"));
}

TEST_F(FakeV2, CreateRefusesACgroupWithProcessesAndTheRoot) {
  put("a/b/below/cgroup.procs", "1234567\n");
  Result<void> made = create_cgroup(paths_);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code(), EBUSY);
  EXPECT_NE(made.error().message().find("1234567"), std::string::npos);
  CgroupPaths root{CgroupVersion::V2, "/", {{"", root_}}};
  EXPECT_EQ(create_cgroup(root).error().code(), EINVAL);
  EXPECT_EQ(remove_cgroup(root).error().code(), EINVAL);
  EXPECT_EQ(signal_cgroup(root, SIGTERM).error().code(), EINVAL);
}

TEST_F(FakeV2, AttachWritesThePid) {
  put("a/b/cgroup.procs", "");
  ASSERT_TRUE(attach_to_cgroup(paths_, 77).ok());
  EXPECT_EQ(get("a/b/cgroup.procs"), "77");
  put("a/b/cgroup.procs", std::to_string(getpid()) + "\n");  // as after CLONE_INTO_CGROUP: nothing is left to do
  ASSERT_TRUE(attach_to_cgroup(paths_, 0).ok());
  EXPECT_EQ(get("a/b/cgroup.procs"), std::to_string(getpid()) + "\n");
}

TEST_F(FakeV2, ProcessesOfAllLevelsOnceAndSorted) {
  put("a/b/cgroup.procs", "9\n0\n8\n");
  put("a/b/c/d/cgroup.procs", "10\n9\n");
  EXPECT_EQ(cgroup_processes(paths_).value(), (std::vector<pid_t>{8, 9, 10}));
  EXPECT_TRUE(cgroup_processes(CgroupPaths{CgroupVersion::V2, "/no", {{"", root_ + "/no"}}})->empty());
}

TEST_F(FakeV2, KillUsesTheKernelsFileAndReachesWhatThatMisses) {
  pid_t child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  put("a/b/cgroup.procs", std::to_string(child) + "\n");
  put("a/b/cgroup.kill", "");
  ASSERT_TRUE(signal_cgroup(paths_, SIGKILL).ok());
  EXPECT_EQ(get("a/b/cgroup.kill"), "1");
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST_F(FakeV2, NeverSignalsTheCaller) {
  put("a/b/cgroup.procs", std::to_string(getpid()) + "\n");
  put("a/b/cgroup.kill", "");
  ASSERT_TRUE(signal_cgroup(paths_, SIGKILL).ok());
  EXPECT_EQ(get("a/b/cgroup.kill"), "");
}

TEST_F(FakeV2, FreezeWaitsForTheEvent) {
  put("a/b/cgroup.freeze", "0\n");
  put("a/b/cgroup.events", "populated 1\nfrozen 0\n");
  EXPECT_FALSE(*cgroup_is_frozen(paths_));
  std::thread kernel([&] {
    usleep(20'000);
    put("a/b/cgroup.events", "populated 1\nfrozen 1\n");
  });
  Result<void> done = freeze_cgroup(paths_, true);
  kernel.join();
  ASSERT_TRUE(done.ok()) << done.error().message();
  EXPECT_EQ(get("a/b/cgroup.freeze"), "1");
  EXPECT_TRUE(*cgroup_is_frozen(paths_));
}

TEST_F(FakeV2, WithoutAFreezerPauseIsAnErrorAndNothingIsFrozen) {
  EXPECT_FALSE(*cgroup_is_frozen(paths_));
  EXPECT_EQ(freeze_cgroup(paths_, true).error().code(), ENOTSUP);
}

TEST_F(FakeV2, OomIsWatchedAndCounted) {
  EXPECT_FALSE(watch_oom(paths_)->valid());  // no memory controller
  EXPECT_EQ(*oom_kills(paths_), 0u);
  put("a/b/memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 0\n");
  UniqueFd watch = watch_oom(paths_).value();
  pollfd poller{watch.get(), POLLIN, 0};
  EXPECT_EQ(poll(&poller, 1, 0), 0);
  put("a/b/memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n");
  EXPECT_EQ(poll(&poller, 1, 1000), 1);
  EXPECT_EQ(*oom_kills(paths_), 2u);
}

TEST_F(FakeV2, Stats) {
  put("a/b/cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 4\nthrottled_usec 9\n");
  put("a/b/memory.current", "4096\n");
  put("a/b/memory.peak", "8192\n");
  put("a/b/memory.max", "max\n");
  put("a/b/memory.stat", "anon 100\nfile 200\ninactive_file 50\n");
  put("a/b/memory.swap.current", "10\n");
  put("a/b/pids.current", "3\n");
  put("a/b/pids.max", "64\n");
  put("a/b/io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\nbroken\n");
  put("a/b/hugetlb.2MB.current", "0\n");
  put("a/b/hugetlb.2MB.rsvd.current", "0\n");
  CgroupStats stats = cgroup_stats(paths_).value();
  EXPECT_EQ(stats.cpu_usage_nanos, 5000u);
  EXPECT_EQ(stats.cpu_throttled_nanos, 9000u);
  EXPECT_EQ(stats.memory_limit_bytes, 0u);
  EXPECT_EQ(stats.memory_max_usage_bytes, 8192u);
  EXPECT_EQ(stats.memory_swap_usage_bytes, 4106u);
  EXPECT_EQ(stats.memory_rss_bytes, 100u);
  EXPECT_EQ(stats.memory_inactive_file_bytes, 50u);
  EXPECT_EQ(stats.memory_raw.at("file"), 200u);
  EXPECT_EQ(stats.pids_limit, 64u);
  ASSERT_EQ(stats.io_service_bytes.size(), 3u);
  EXPECT_EQ(stats.io_service_bytes[1].op, "Write");
  EXPECT_EQ(stats.io_serviced[0].value, 3u);
  ASSERT_EQ(stats.hugetlb.size(), 1u);
  EXPECT_EQ(stats.hugetlb[0].page_size, "2MB");
}

// The real hierarchies, below "/caisson-test-<pid>-<n>".
class Real : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<CgroupLayout> layout = cgroup_layout();
    if (!layout.ok() || geteuid() != 0) GTEST_SKIP() << "needs root and a cgroup file system";
    static int count = 0;
    paths_ = cgroup_paths(*layout, fmt::format("/caisson-test-{}-{}/x", getpid(), ++count)).value();
    top_ = cgroup_paths(*layout, fmt::format("/caisson-test-{}-{}", getpid(), count)).value();
    Result<void> made = create_cgroup(paths_);
    if (!made.ok()) GTEST_SKIP() << "no cgroup can be made here: " << made.error().message();
  }
  void TearDown() override {
    if (top_.folders.empty()) return;
    Result<void> removed = remove_cgroup(top_);
    EXPECT_TRUE(removed.ok()) << removed.error().message();
    for (const auto& [controller, folder] : top_.folders) EXPECT_FALSE(fs::exists(folder)) << folder;
  }
  // A child that moves itself into the cgroup and then runs body.
  template <typename Body>
  pid_t child(Body body) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
      bool attached = attach_to_cgroup(paths_, 0).ok();
      [[maybe_unused]] ssize_t told = write(ends[1], attached ? "y" : "n", 1);
      close(ends[0]);
      close(ends[1]);
      if (!attached) _exit(1);
      body();
      _exit(0);
    }
    close(ends[1]);
    char answer = 0;
    EXPECT_EQ(read(ends[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'y');
    close(ends[0]);
    return pid;
  }
  CgroupPaths paths_, top_;
};

TEST_F(Real, AttachFreezeSignalAndRemove) {
  pid_t pid = child([] {
    for (;;) pause();
  });
  EXPECT_EQ(cgroup_processes(paths_).value(), std::vector<pid_t>{pid});
  for (const auto& [controller, folder] : paths_.folders)
    EXPECT_EQ(read_cgroup_file(folder, "cgroup.procs").value(), std::to_string(pid) + "\n") << folder;
  Result<void> frozen = freeze_cgroup(paths_, true);
  ASSERT_TRUE(frozen.ok()) << frozen.error().message();
  EXPECT_TRUE(*cgroup_is_frozen(paths_));
  ASSERT_TRUE(signal_cgroup(paths_, SIGTERM).ok());
  EXPECT_TRUE(*cgroup_is_frozen(paths_));     // as it was
  if (paths_.version == CgroupVersion::V1) {  // v2 lets a frozen process die
    EXPECT_EQ(waitpid(pid, nullptr, WNOHANG), 0);
  }
  ASSERT_TRUE(freeze_cgroup(paths_, false).ok());
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
  EXPECT_TRUE(remove_cgroup(paths_).ok());
  EXPECT_TRUE(remove_cgroup(paths_).ok());  // idempotent
}

TEST_F(Real, OnlyAnEmptyOneIsRemovedAtOnce) {
  const pid_t pid = child([] {
    for (;;) pause();
  });
  EXPECT_FALSE(remove_empty_cgroup(paths_));
  EXPECT_EQ(cgroup_processes(paths_).value(), std::vector<pid_t>{pid});
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
  EXPECT_TRUE(remove_empty_cgroup(paths_));
  for (const auto& [controller, folder] : paths_.folders) EXPECT_FALSE(fs::exists(folder)) << folder;
  EXPECT_FALSE(remove_empty_cgroup({}));
}

TEST_F(Real, KillReachesFrozenProcessesAndThoseBelow) {
  CgroupPaths below = paths_;
  below.path += "/y";
  for (auto& [controller, folder] : below.folders) folder += "/y";
  ASSERT_TRUE(create_cgroup(below).ok());
  pid_t first = 0;
  if (paths_.version == CgroupVersion::V1) {  // v2 has no processes beside cgroups with controllers
    first = child([] {
      for (;;) pause();
    });
  }
  std::swap(paths_, below);
  pid_t second = child([] {
    for (;;) pause();
  });
  std::swap(paths_, below);
  ASSERT_TRUE(freeze_cgroup(paths_, true).ok());
  ASSERT_TRUE(signal_cgroup(paths_, SIGKILL).ok());
  for (pid_t pid : {first, second}) {
    if (pid == 0) continue;
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(WTERMSIG(status), SIGKILL);
  }
  EXPECT_FALSE(*cgroup_is_frozen(paths_));
}

TEST_F(Real, RemoveThawsWhatHasOnlyBegunToFreeze) {
  auto freezer = paths_.folders.find("freezer");
  if (freezer == paths_.folders.end()) GTEST_SKIP() << "no v1 freezer";
  // vfork's parent sleeps where it cannot be frozen: the cgroup stays FREEZING, as after the death of whoever was freezing it.
  pid_t pid = child([] {
    if (vfork() == 0) {
      for (;;) pause();
    }
  });
  usleep(20'000);
  ASSERT_TRUE(write_cgroup_file(freezer->second, "freezer.state", "FROZEN").ok());
  usleep(20'000);
  EXPECT_TRUE(*cgroup_is_frozen(paths_));
  Result<void> removed = remove_cgroup(paths_);
  EXPECT_TRUE(removed.ok()) << removed.error().message();
  waitpid(pid, nullptr, 0);
}

TEST_F(Real, RemoveEndsAForkBomb) {
  ASSERT_TRUE(write_cgroup_file(paths_.folders.contains("pids") ? paths_.folders["pids"] : paths_.folders[""], "pids.max", "40").ok());
  signal(SIGCHLD, SIG_IGN);
  child([] {
    setsid();
    for (;;)
      if (fork() < 0) usleep(100);
  });
  for (int i = 0; i < 500 && cgroup_processes(paths_)->size() <= 10; ++i) usleep(10'000);
  EXPECT_GT(cgroup_processes(paths_)->size(), 10u);
  Result<void> removed = remove_cgroup(paths_);
  EXPECT_TRUE(removed.ok()) << removed.error().message();
  signal(SIGCHLD, SIG_DFL);
}

TEST_F(Real, CloneIntoTheUnifiedFolderIsSeenAsAttached) {
  UniqueFd unified = unified_cgroup_fd(paths_).value();
  if (!unified) GTEST_SKIP() << "no v2 hierarchy";
  clone_args args{};
  args.flags = CLONE_INTO_CGROUP;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<uint64_t>(unified.get());
  pid_t pid = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof args));
  ASSERT_GE(pid, 0) << strerror(errno);
  if (pid == 0) {
    bool attached = attach_to_cgroup(paths_, 0).ok();
    for (const auto& [controller, folder] : paths_.folders)
      attached &= read_cgroup_file(folder, "cgroup.procs").value() == std::to_string(getpid()) + "\n";
    _exit(attached ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST_F(Real, OomKillIsReported) {
  bool v1 = paths_.version == CgroupVersion::V1;
  auto memory = paths_.folders.find(v1 ? "memory" : "");
  if (memory == paths_.folders.end()) GTEST_SKIP() << "no memory controller";
  Result<void> limited = write_cgroup_file(memory->second, v1 ? "memory.limit_in_bytes" : "memory.max", std::to_string(16 << 20));
  if (!limited.ok()) GTEST_SKIP() << limited.error().message();
  (void)write_cgroup_file(memory->second, v1 ? "memory.memsw.limit_in_bytes" : "memory.swap.max", v1 ? std::to_string(32 << 20) : "0");
  UniqueFd watch = watch_oom(paths_).value();
  ASSERT_TRUE(watch.valid());
  EXPECT_EQ(*oom_kills(paths_), 0u);
  pid_t pid = child([] {
    size_t size = 64 << 20;
    char* hog = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (size_t i = 0; i < size; i += 4096) hog[i] = 1;
  });
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  pollfd poller{watch.get(), POLLIN, 0};
  EXPECT_EQ(poll(&poller, 1, 2000), 1);
  EXPECT_EQ(*oom_kills(paths_), 1u);
  CgroupStats stats = cgroup_stats(paths_).value();
  EXPECT_EQ(stats.oom_kills, 1u);
  EXPECT_EQ(stats.memory_limit_bytes, 16u << 20);
  EXPECT_GT(stats.memory_max_usage_bytes, 8u << 20);
  EXPECT_GT(stats.memory_failcnt, 0u);
}

TEST_F(Real, StatsCountProcessorTimeAndProcesses) {
  pid_t pid = child([] {
    for (;;) {
    }
  });
  usleep(50'000);
  CgroupStats stats = cgroup_stats(paths_).value();
  EXPECT_GT(stats.cpu_usage_nanos, 1'000'000u);
  EXPECT_EQ(stats.pids_current, 1u);
  EXPECT_EQ(stats.pids_limit, 0u);
  EXPECT_EQ(stats.memory_limit_bytes, 0u);
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

}  // namespace
}  // namespace caisson::host
