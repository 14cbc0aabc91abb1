#include "host/folder_watch.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/files.h"

namespace caisson::host {
namespace {

class FolderWatchTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "a copy of a mount needs root";
    if (!FolderWatch::is_available()) GTEST_SKIP() << "the kernel has no dnotify";
    folder = testing::TempDir() + "folder_watch." + std::to_string(getpid());
    ASSERT_EQ(mkdir(folder.c_str(), 0755), 0);
    loop = std::move(*EventLoop::create());
    auto made = FolderWatch::create(*loop);
    ASSERT_TRUE(made.ok());
    watch = std::move(*made);
  }
  void TearDown() override {
    watch.reset();
    if (!folder.empty()) (void)remove_tree(folder);
  }
  bool runs_until_told() {
    told = false;
    auto timer = loop->add_timer(std::chrono::seconds(20), [this] { loop->stop(); });
    EXPECT_TRUE(loop->run().ok());
    loop->cancel_timer(timer);
    return told;
  }
  auto tell() {
    return [this] {
      told = true;
      loop->stop();
    };
  }
  std::string folder;
  std::unique_ptr<EventLoop> loop;
  std::unique_ptr<FolderWatch> watch;
  bool told = false;
};

TEST_F(FolderWatchTest, TellsOfALinkThatIsRenamedOverAnother) {
  ASSERT_EQ(symlink("one", (folder + "/..data").c_str()), 0);
  ASSERT_EQ(symlink("two", (folder + "/..tmp").c_str()), 0);
  ASSERT_TRUE(watch->add(folder, tell()).ok());
  ASSERT_EQ(rename((folder + "/..tmp").c_str(), (folder + "/..data").c_str()), 0);
  EXPECT_TRUE(runs_until_told());
  ASSERT_EQ(unlink((folder + "/..data").c_str()), 0);
  EXPECT_TRUE(runs_until_told()) << "also the second time";
}

TEST_F(FolderWatchTest, WhatIsRemovedIsNotTold) {
  auto first = watch->add(folder, [] { FAIL() << "it has been removed"; });
  ASSERT_TRUE(first.ok());
  watch->remove(*first);
  ASSERT_TRUE(watch->add(folder, tell()).ok());
  ASSERT_EQ(mkdir((folder + "/new").c_str(), 0755), 0);
  EXPECT_TRUE(runs_until_told());
}

TEST_F(FolderWatchTest, AWatchedFileSystemCanBeUnmounted) {
  ASSERT_EQ(mount("watched", folder.c_str(), "tmpfs", 0, nullptr), 0);
  auto added = watch->add(folder, [] {});
  EXPECT_EQ(umount(folder.c_str()), 0);
  ASSERT_TRUE(added.ok()) << added.error().message();
}

TEST_F(FolderWatchTest, WhatIsNoFolderIsAnError) {
  EXPECT_EQ(watch->add(folder + "/none", [] {}).error().code(), ENOENT);
  ASSERT_TRUE(write_file_atomic(folder + "/file", "x").ok());
  EXPECT_EQ(watch->add(folder + "/file", [] {}).error().code(), ENOTDIR);
}

}  // namespace
}  // namespace caisson::host
