#include "appkernel/limits.h"

#include <gtest/gtest.h>

namespace caisson::appkernel {
namespace {

constexpr int64_t kMiB = 1 << 20;

TEST(Limits, SayWhatTheResourcesSay) {
  oci::Resources resources;
  resources.memory.limit = 64 * kMiB;
  resources.memory.reservation = 32 * kMiB;
  resources.memory.swap = 80 * kMiB;
  resources.cpu.quota = 50000;
  resources.cpu.period = 200000;
  resources.cpu.shares = 512;
  Limits limits;
  limits.apply(resources);
  const auto& said = limits.described();
  EXPECT_EQ(said.memory(), 64 * kMiB);
  EXPECT_EQ(said.memory_low(), 32 * kMiB);
  EXPECT_EQ(said.swap(), 16 * kMiB) << "swap alone, as version 2 counts";
  EXPECT_EQ(said.cpu_quota(), 50000);
  EXPECT_EQ(said.cpu_period(), 200000);
  EXPECT_EQ(said.cpu_weight(), 20);
  EXPECT_FALSE(said.has_pids());
  EXPECT_EQ(resources.memory.limit, 64 * kMiB) << "the node holds it";
}

TEST(Limits, TheNodesLimitOfProcessesHasRoomForTheKernelsOwn) {
  oci::Resources resources;
  resources.pids_limit = 12;
  Limits limits;
  limits.apply(resources);
  EXPECT_EQ(limits.described().pids(), 12);
  EXPECT_GT(*resources.pids_limit, 2 * 12) << "a guest's thread is two of the node";
  resources.pids_limit = INT64_MAX;
  limits.apply(resources);
  EXPECT_GT(*resources.pids_limit, 0) << "no overflow";
  resources.pids_limit = -1;
  limits.apply(resources);
  EXPECT_EQ(*resources.pids_limit, -1);
  EXPECT_FALSE(limits.described().has_pids());
}

TEST(Limits, AnUpdateLeavesWhatItDoesNotName) {
  Limits limits;
  oci::Resources first;
  first.memory.limit = 64 * kMiB;
  first.memory.swap = 80 * kMiB;
  first.cpu.quota = 1000;
  limits.apply(first);
  oci::Resources second;
  second.memory.limit = 70 * kMiB;
  limits.apply(second);
  EXPECT_EQ(limits.described().memory(), 70 * kMiB);
  EXPECT_EQ(limits.described().swap(), 10 * kMiB);
  EXPECT_EQ(limits.described().cpu_quota(), 1000);
  oci::Resources third;
  third.memory.limit = -1;
  third.cpu.quota = -1;
  limits.apply(third);
  EXPECT_FALSE(limits.described().has_memory());
  EXPECT_FALSE(limits.described().has_swap());
  EXPECT_FALSE(limits.described().has_cpu_quota());
}

TEST(Limits, FilesOfVersionTwoCountToo) {
  Limits limits;
  oci::Resources resources;
  resources.unified = {{"memory.max", "1048576"}, {"pids.max", "5"}};
  limits.apply(resources);
  EXPECT_EQ(limits.described().memory(), kMiB);
  EXPECT_EQ(limits.described().pids(), 5);
  EXPECT_NE(resources.unified["pids.max"], "5");
  resources.unified = {{"memory.max", "max"}, {"pids.max", "max"}};
  limits.apply(resources);
  EXPECT_FALSE(limits.described().has_memory());
  EXPECT_FALSE(limits.described().has_pids());
  EXPECT_EQ(resources.unified["pids.max"], "max");
}

TEST(Limits, DeviceRulesEndWithTheRuntimesDefaults) {
  oci::Resources resources;
  Limits limits;
  limits.apply(resources);
  const int defaults = limits.described().devices_size();
  EXPECT_GT(defaults, 0) << "what a container may always use is not all";
  EXPECT_FALSE(limits.described().devices(0).allow());
  resources.devices.push_back({.allow = true, .type = "c", .major = 10, .minor = 229, .access = "rm"});
  limits.apply(resources);
  ASSERT_EQ(limits.described().devices_size(), defaults + 1);
  const auto& fuse = limits.described().devices(1);
  EXPECT_TRUE(fuse.allow() && fuse.character());
  EXPECT_FALSE(fuse.block());
  EXPECT_EQ(fuse.access(), 3u);  // linux/bpf.h: BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ
  // An update that says nothing of devices leaves them.
  oci::Resources others;
  limits.apply(others);
  EXPECT_EQ(limits.described().devices_size(), defaults + 1);
}

}  // namespace
}  // namespace caisson::appkernel
