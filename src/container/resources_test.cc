#include "container/resources.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "container/resources_writer.h"
#include "host/cgroup_files.h"

namespace caisson::container {
namespace {

namespace fs = std::filesystem;

TEST(Conversions, SharesToWeight) {
  EXPECT_EQ(weight_from_shares(0), 0u);
  EXPECT_EQ(weight_from_shares(1), 1u);
  EXPECT_EQ(weight_from_shares(2), 1u);
  EXPECT_EQ(weight_from_shares(1024), 39u);
  EXPECT_EQ(weight_from_shares(262144), 10000u);
  EXPECT_EQ(weight_from_shares(UINT64_MAX), 10000u);
}

TEST(Conversions, BlkioToIoWeight) {
  EXPECT_EQ(io_weight_from_blkio(0), 0u);
  EXPECT_EQ(io_weight_from_blkio(10), 1u);
  EXPECT_EQ(io_weight_from_blkio(1000), 10000u);
}

TEST(Conversions, Swap) {
  EXPECT_EQ(swap_without_memory(0, 0).value(), std::nullopt);
  EXPECT_EQ(swap_without_memory(0, 100).value(), std::nullopt);
  EXPECT_EQ(swap_without_memory(0, -1).value(), -1);
  EXPECT_EQ(swap_without_memory(-1, 100).value(), -1);
  EXPECT_EQ(swap_without_memory(100, 100).value(), 0);
  EXPECT_EQ(swap_without_memory(300, 100).value(), 200);
  for (auto [swap, memory] : {std::pair{100, 0}, {100, -1}, {100, 200}, {-2, 100}}) {
    auto result = swap_without_memory(swap, memory);
    ASSERT_FALSE(result.ok());
    EXPECT_TRUE(result.error().message().starts_with("linux.resources.memory.swap")) << result.error().message();
  }
}

TEST(Conversions, Names) {
  EXPECT_TRUE(check_unified_name("memory.high").ok());
  for (const char* name : {"", ".", "..", "../memory.high", "a/b.c", "memory"}) EXPECT_FALSE(check_unified_name(name).ok()) << name;
  EXPECT_TRUE(check_page_size("2MB").ok());
  for (const char* size : {"", "MB", "2", "2mb", "../2MB", "2MB/x"}) EXPECT_FALSE(check_page_size(size).ok()) << size;
}

// A folder with the files of a v2 cgroup in it.
class FakeV2 : public ::testing::Test {
 protected:
  FakeV2() {
    char name[] = "/tmp/caisson-resources-XXXXXX";
    folder_ = mkdtemp(name);
    paths_ = host::CgroupPaths{host::CgroupVersion::V2, "/x", {{"", folder_}}};
  }
  ~FakeV2() override { fs::remove_all(folder_); }
  void files(std::initializer_list<const char*> names) {
    for (const char* name : names) std::ofstream(folder_ + "/" + name) << "";
  }
  std::string get(const std::string& file) {
    std::ifstream in(folder_ + "/" + file);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  // As an update, which leaves devices alone: a folder takes no BPF program.
  std::string apply(const oci::Resources& resources) {
    Result<void> done = apply_resources(paths_, resources, true);
    return done.ok() ? "" : done.error().message();
  }
  std::string folder_;
  host::CgroupPaths paths_;
};

TEST_F(FakeV2, Memory) {
  files({"memory.max", "memory.swap.max", "memory.low"});
  oci::Resources resources;
  resources.memory.limit = 100 << 20;
  resources.memory.swap = 300 << 20;
  resources.memory.reservation = 50 << 20;
  resources.memory.swappiness = 10;  // a warning
  EXPECT_EQ(apply(resources), "");
  EXPECT_EQ(get("memory.max"), std::to_string(100 << 20));
  EXPECT_EQ(get("memory.swap.max"), std::to_string(200 << 20));
  EXPECT_EQ(get("memory.low"), std::to_string(50 << 20));
  resources.memory = {};
  resources.memory.limit = -1;
  EXPECT_EQ(apply(resources), "");
  EXPECT_EQ(get("memory.max"), "max");
  EXPECT_EQ(get("memory.swap.max"), "max");
}

TEST_F(FakeV2, SwapAloneIsBesideTheStandingLimit) {
  files({"memory.swap.max"});
  std::ofstream(folder_ + "/memory.max") << "1000\n";
  oci::Resources resources;
  resources.memory.swap = 1500;
  EXPECT_EQ(apply(resources), "");
  EXPECT_EQ(get("memory.swap.max"), "500");
}

TEST_F(FakeV2, AKernelWithoutSwapHoldsASwapLimit) {
  files({"memory.max"});
  oci::Resources resources;
  resources.memory.limit = 1000;
  resources.memory.swap = 2000;
  EXPECT_EQ(apply(resources), "");
}

TEST_F(FakeV2, CheckBeforeUpdate) {
  files({"memory.max"});
  std::ofstream(folder_ + "/memory.current") << "5000\n";
  oci::Resources resources;
  resources.memory.limit = 4096;
  resources.memory.check_before_update = true;
  EXPECT_TRUE(apply(resources).starts_with("linux.resources.memory.limit"));
  EXPECT_EQ(get("memory.max"), "");
}

TEST_F(FakeV2, CpuAndPids) {
  files({"cpu.weight", "cpu.idle", "cpu.max.burst", "cpuset.cpus", "cpuset.mems", "pids.max"});
  std::ofstream(folder_ + "/cpu.max") << "20000 50000\n";
  oci::Resources resources;
  resources.cpu.shares = 1024;
  resources.cpu.period = 40000;
  resources.cpu.burst = 1000;
  resources.cpu.idle = 1;
  resources.cpu.cpus = "0-1";
  resources.cpu.mems = "0";
  resources.pids_limit = 64;
  EXPECT_EQ(apply(resources), "");
  EXPECT_EQ(get("cpu.weight"), "39");
  EXPECT_EQ(get("cpu.max"), "20000 40000");  // the quota stays
  EXPECT_EQ(get("cpu.max.burst"), "1000");
  EXPECT_EQ(get("cpu.idle"), "1");
  EXPECT_EQ(get("cpuset.cpus"), "0-1");
  EXPECT_EQ(get("pids.max"), "64");
  resources = {};
  resources.cpu.quota = -1;
  resources.pids_limit = -1;
  EXPECT_EQ(apply(resources), "");
  EXPECT_EQ(get("cpu.max"), "max 40000");
  EXPECT_EQ(get("pids.max"), "max");
}

TEST_F(FakeV2, BlockIo) {
  files({"io.weight", "io.max"});
  oci::Resources resources;
  resources.block_io.weight = 505;
  resources.block_io.throttle_write_iops = {{8, 16, 0}};
  EXPECT_EQ(apply(resources), "");
  EXPECT_EQ(get("io.weight"), std::to_string(io_weight_from_blkio(505)));
  EXPECT_EQ(get("io.max"), "8:16 wiops=max");
  files({"io.bfq.weight"});
  resources.block_io.throttle_write_iops = {{8, 16, 10}};
  EXPECT_EQ(apply(resources), "");
  EXPECT_EQ(get("io.bfq.weight"), "505");
  EXPECT_EQ(get("io.max"), "8:16 wiops=10");
}

TEST_F(FakeV2, HugepagesRdmaAndUnified) {
  files({"hugetlb.2MB.max", "hugetlb.2MB.rsvd.max", "rdma.max", "memory.high"});
  oci::Resources resources;
  resources.hugepage_limits = {{"2MB", 4194304}};
  resources.rdma["mlx5_0"] = {2, 2000};
  resources.unified["memory.high"] = "5000";
  EXPECT_EQ(apply(resources), "");
  EXPECT_EQ(get("hugetlb.2MB.rsvd.max"), "4194304");
  EXPECT_EQ(get("rdma.max"), "mlx5_0 hca_handle=2 hca_object=2000");
  EXPECT_EQ(get("memory.high"), "5000");
  resources.unified["../x.y"] = "1";
  EXPECT_TRUE(apply(resources).starts_with("linux.resources.unified"));
}

TEST_F(FakeV2, AMissingControllerIsNamed) {
  oci::Resources resources;
  resources.pids_limit = 5;
  EXPECT_TRUE(apply(resources).starts_with("linux.resources.pids.limit: cannot be set")) << apply(resources);
  resources = {};
  resources.unified["cpu.max"] = "1";
  EXPECT_TRUE(apply(resources).starts_with("linux.resources.unified[\"cpu.max\"]")) << apply(resources);
  resources = {};
  resources.memory.limit = 0;  // engines send zeros for what is not set
  resources.cpu.shares = 0;
  resources.pids_limit = 0;
  EXPECT_EQ(apply(resources), "");
}

// This machine's own version 1 controllers.
class RealV1 : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<host::CgroupLayout> layout = host::cgroup_layout();
    if (!layout.ok() || layout->version != host::CgroupVersion::V1 || geteuid() != 0) GTEST_SKIP() << "needs root and cgroup version 1";
    paths_ = host::cgroup_paths(*layout, fmt::format("/caisson-resources-{}", getpid())).value();
    Result<void> made = host::create_cgroup(paths_);
    ASSERT_TRUE(made.ok()) << made.error().message();
  }
  void TearDown() override { EXPECT_TRUE(host::remove_cgroup(paths_).ok()); }
  std::string apply(const oci::Resources& resources, bool update = false) {
    Result<void> done = apply_resources(paths_, resources, update);
    return done.ok() ? "" : done.error().message();
  }
  std::string get(const char* controller, const char* file) {
    auto text = host::read_cgroup_file(paths_.folders.at(controller), file);
    EXPECT_TRUE(text.ok()) << text.error().message();
    std::string value = text.ok() ? *text : "";
    while (!value.empty() && value.back() == '\n') value.pop_back();
    return value;
  }
  host::CgroupPaths paths_;
};

TEST_F(RealV1, MemoryUpAndDown) {
  oci::Resources resources;
  resources.memory.limit = 64 << 20;
  resources.memory.swap = 128 << 20;
  resources.memory.reservation = 32 << 20;
  resources.memory.swappiness = 20;
  resources.memory.disable_oom_killer = true;
  ASSERT_EQ(apply(resources), "");
  EXPECT_EQ(get("memory", "memory.limit_in_bytes"), std::to_string(64 << 20));
  EXPECT_EQ(get("memory", "memory.memsw.limit_in_bytes"), std::to_string(128 << 20));
  EXPECT_EQ(get("memory", "memory.soft_limit_in_bytes"), std::to_string(32 << 20));
  EXPECT_EQ(get("memory", "memory.swappiness"), "20");
  EXPECT_TRUE(get("memory", "memory.oom_control").starts_with("oom_kill_disable 1"));
  resources = {};
  resources.memory.limit = 256 << 20;  // above the old memory plus swap
  resources.memory.swap = 512 << 20;
  ASSERT_EQ(apply(resources, true), "");
  resources.memory.limit = 16 << 20;
  resources.memory.swap = 16 << 20;
  ASSERT_EQ(apply(resources, true), "");
  EXPECT_EQ(get("memory", "memory.memsw.limit_in_bytes"), std::to_string(16 << 20));
  resources.memory.limit = -1;
  resources.memory.swap.reset();
  ASSERT_EQ(apply(resources, true), "");
  EXPECT_GT(std::stoull(get("memory", "memory.memsw.limit_in_bytes")), 1ull << 40);
}

TEST_F(RealV1, Cpu) {
  oci::Resources resources;
  resources.cpu.shares = 512;
  resources.cpu.quota = 20000;
  resources.cpu.period = 50000;
  resources.cpu.burst = 1000;
  resources.cpu.cpus = "0";
  resources.cpu.mems = "0";
  ASSERT_EQ(apply(resources), "");
  EXPECT_EQ(get("cpu", "cpu.shares"), "512");
  EXPECT_EQ(get("cpu", "cpu.cfs_quota_us"), "20000");
  EXPECT_EQ(get("cpu", "cpu.cfs_period_us"), "50000");
  EXPECT_EQ(get("cpu", "cpu.cfs_burst_us"), "1000");
  EXPECT_EQ(get("cpuset", "cpuset.cpus"), "0");
  resources = {};
  resources.cpu.shares = 1;
  EXPECT_EQ(apply(resources, true), "linux.resources.cpu.shares: the minimum allowed is 2, is 1");
  resources = {};
  resources.cpu.cpus = "999";
  EXPECT_TRUE(apply(resources, true).starts_with("linux.resources.cpu.cpus")) << apply(resources, true);
}

TEST_F(RealV1, BlockIoPidsAndWhatIsMissing) {
  oci::Resources resources;
  resources.pids_limit = 33;
  bool weights = host::cgroup_file_exists(paths_.folders["blkio"], "blkio.bfq.weight") ||
                 host::cgroup_file_exists(paths_.folders["blkio"], "blkio.weight");
  if (weights) resources.block_io.weight = 300;
  ASSERT_EQ(apply(resources), "");
  EXPECT_EQ(get("pids", "pids.max"), "33");
  resources = {};
  resources.pids_limit = -1;
  ASSERT_EQ(apply(resources, true), "");
  EXPECT_EQ(get("pids", "pids.max"), "max");
  resources = {};
  resources.unified["memory.high"] = "1";
  EXPECT_TRUE(apply(resources, true).starts_with("linux.resources.unified"));
  paths_.folders.erase("pids");
  resources = {};
  resources.pids_limit = 4;
  EXPECT_EQ(apply(resources, true), "linux.resources.pids.limit: cannot be set: the cgroup controller \"pids\" is not available here");
  paths_ = host::cgroup_paths(host::cgroup_layout().value(), paths_.path).value();
}

TEST_F(RealV1, Devices) {
  oci::Resources resources;
  resources.devices = {{false, "", {}, {}, "rwm"}, {true, "c", 10, 229, "rw"}};
  ASSERT_EQ(apply(resources), "");
  EXPECT_NE(get("devices", "devices.list").find("c 10:229 rw"), std::string::npos);
  EXPECT_EQ(get("devices", "devices.list").find("a *:*"), std::string::npos);
  resources.devices = {{false, "", {}, {}, "rwm"}, {true, "c", 10, 229, "r"}, {true, "b", 7, {}, "rwm"}};
  ASSERT_EQ(apply(resources, true), "");
  EXPECT_NE(get("devices", "devices.list").find("c 10:229 r"), std::string::npos);
  EXPECT_EQ(get("devices", "devices.list").find("c 10:229 rw"), std::string::npos);
  EXPECT_NE(get("devices", "devices.list").find("b 7:* rwm"), std::string::npos);
  resources.devices.clear();
  ASSERT_EQ(apply(resources, true), "");  // an update without devices leaves them
  EXPECT_NE(get("devices", "devices.list").find("b 7:* rwm"), std::string::npos);
  resources.devices = {{true, "", {}, {}, "rwm"}};
  ASSERT_EQ(apply(resources, true), "");
  EXPECT_EQ(get("devices", "devices.list"), "a *:* rwm");
  resources.devices = {};
  ASSERT_EQ(apply(resources), "");  // a new container without rules gets the defaults only
  EXPECT_NE(get("devices", "devices.list").find("c 1:3 rwm"), std::string::npos);
  EXPECT_EQ(get("devices", "devices.list").find("b 7:"), std::string::npos);
}

// The same on a node, or in a guest, with version 2.
class RealV2 : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<host::CgroupLayout> layout = host::cgroup_layout();
    if (!layout.ok() || layout->version != host::CgroupVersion::V2 || geteuid() != 0) GTEST_SKIP() << "needs root and cgroup version 2";
    paths_ = host::cgroup_paths(*layout, fmt::format("/caisson-resources-{}/x", getpid())).value();
    Result<void> made = host::create_cgroup(paths_);
    ASSERT_TRUE(made.ok()) << made.error().message();
  }
  void TearDown() override {
    EXPECT_TRUE(host::remove_cgroup(paths_).ok());  // nothing to do where it was skipped
  }
  std::string apply(const oci::Resources& resources, bool update = false) {
    Result<void> done = apply_resources(paths_, resources, update);
    return done.ok() ? "" : done.error().message();
  }
  std::string get(const char* file) {
    auto text = host::read_cgroup_file(paths_.folders.at(""), file);
    EXPECT_TRUE(text.ok()) << text.error().message();
    std::string value = text.ok() ? *text : "";
    while (!value.empty() && value.back() == '\n') value.pop_back();
    return value;
  }
  host::CgroupPaths paths_;
};

TEST_F(RealV2, Limits) {
  oci::Resources resources;
  resources.memory.limit = 64 << 20;
  resources.memory.swap = 96 << 20;
  resources.memory.reservation = 32 << 20;
  resources.cpu.shares = 512;
  resources.cpu.cpus = "0";
  resources.cpu.mems = "0";
  resources.pids_limit = 33;
  resources.unified["memory.high"] = std::to_string(48 << 20);
  ASSERT_EQ(apply(resources), "");
  EXPECT_EQ(get("memory.max"), std::to_string(64 << 20));
  EXPECT_EQ(get("memory.high"), std::to_string(48 << 20));
  EXPECT_EQ(get("memory.low"), std::to_string(32 << 20));
  if (host::cgroup_file_exists(paths_.folders.at(""), "memory.swap.max")) {
    EXPECT_EQ(get("memory.swap.max"), std::to_string(32 << 20));
  }
  EXPECT_EQ(get("cpu.weight"), "20");
  EXPECT_EQ(get("cpuset.cpus"), "0");
  EXPECT_EQ(get("pids.max"), "33");
  if (!host::cgroup_file_exists(paths_.folders.at(""), "cpu.max")) GTEST_SKIP() << "this kernel has no CFS bandwidth";
  resources = {};
  resources.cpu.quota = 20000;
  resources.cpu.period = 50000;
  resources.cpu.burst = 10000;
  ASSERT_EQ(apply(resources, true), "");
  EXPECT_EQ(get("cpu.max"), "20000 50000");
  EXPECT_EQ(get("cpu.max.burst"), "10000");
  resources = {};
  resources.cpu.quota = 30000;
  ASSERT_EQ(apply(resources, true), "");
  EXPECT_EQ(get("cpu.max"), "30000 50000");
  resources.cpu.quota = -1;
  resources.memory.limit = -1;
  ASSERT_EQ(apply(resources, true), "");
  EXPECT_EQ(get("cpu.max"), "max 50000");
  EXPECT_EQ(get("memory.max"), "max");
}

}  // namespace
}  // namespace caisson::container
