#include "microvm/mirrored_volumes.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "host/files.h"
#include "microvm/name_service.h"

namespace caisson::microvm {
namespace {

namespace fs = std::filesystem;

class AtomicVolume : public testing::Test {
 protected:
  void SetUp() override {
    if (!host::FolderWatch::is_available()) GTEST_SKIP() << "the kernel has no dnotify";
    folder = testing::TempDir() + "atomic." + std::to_string(getpid());
    fs::create_directories(folder + "/" + kVersion);
    ASSERT_TRUE(host::write_file_atomic(folder + "/" + kVersion + "/key", "text").ok());
    fs::create_symlink(kVersion, folder + "/..data");
    fs::create_symlink("..data/key", folder + "/key");
  }
  void TearDown() override {
    if (!folder.empty()) fs::remove_all(folder);
  }
  static constexpr const char* kVersion = "..2026_11_21_13_05_59.123456789";
  std::string folder;
};

TEST_F(AtomicVolume, AsKubeletLeavesIt) { EXPECT_TRUE(is_atomic_volume(folder)); }

TEST_F(AtomicVolume, InWhichOthersWriteIsNone) {
  ASSERT_TRUE(host::write_file_atomic(folder + "/plain", "x").ok());
  EXPECT_FALSE(is_atomic_volume(folder));
}

TEST_F(AtomicVolume, WithASocketInItIsNone) {
  ASSERT_EQ(mkfifo((folder + "/" + kVersion + "/pipe").c_str(), 0600), 0);
  EXPECT_FALSE(is_atomic_volume(folder));
}

TEST_F(AtomicVolume, ThatIsLargeIsNone) {
  ASSERT_EQ(truncate((folder + "/" + kVersion + "/key").c_str(), 2 << 20), 0);
  EXPECT_FALSE(is_atomic_volume(folder));
}

TEST_F(AtomicVolume, WhoseDataIsElsewhereIsNone) {
  for (const char* elsewhere : {"..1", "../other", "/etc", "..2026_11_21_13_05_59.1/../.."}) {
    fs::remove(folder + "/..data");
    fs::create_symlink(elsewhere, folder + "/..data");
    EXPECT_FALSE(is_atomic_volume(folder)) << elsewhere;
  }
  EXPECT_FALSE(is_atomic_volume(folder + "/none"));
  EXPECT_FALSE(is_atomic_volume(folder + "/" + kVersion + "/key"));
}

TEST(LoopbackNameServers, AreThoseOfResolvConf) {
  EXPECT_EQ(loopback_name_servers("search example\nnameserver 127.0.0.11\noptions ndots:0\n"), (std::vector<std::string>{"127.0.0.11"}));
  EXPECT_EQ(loopback_name_servers("nameserver\t127.0.0.53\r\n nameserver 8.8.8.8\nnameserver 127.0.0.53\n"),
            (std::vector<std::string>{"127.0.0.53"}));
  EXPECT_TRUE(loopback_name_servers("nameserver 8.8.8.8\n# nameserver 127.0.0.1\nnameserver ::1\nnameserver\n").empty());
  EXPECT_EQ(loopback_name_servers("nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\nnameserver 127.0.0.4\n").size(), 3u);
}

}  // namespace
}  // namespace caisson::microvm
