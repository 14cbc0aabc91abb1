#include "host/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

namespace caisson::host {
namespace {

class FilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "caisson-files-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(dir_).ok()); }
  bool exists(const std::string& path) {
    struct stat info {};
    return lstat(path.c_str(), &info) == 0;
  }
  std::string dir_;
};

TEST_F(FilesTest, WritesAndReads) {
  const std::string path = dir_ + "/state.json";
  ASSERT_TRUE(write_file_atomic(path, "old text").ok());
  ASSERT_TRUE(write_file_atomic(path, "new").ok());
  EXPECT_EQ(*read_file(path), "new");
  EXPECT_EQ(*read_file(path, 3), "new");
  auto too_long = read_file(path, 2);
  ASSERT_FALSE(too_long.ok());
  EXPECT_EQ(too_long.error().code(), EFBIG);
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ASSERT_TRUE(write_file(path, "nEW").ok());
  EXPECT_EQ(*read_file(path), "nEW");
  EXPECT_EQ(write_file(dir_ + "/absent", "x").error().code(), ENOENT);
}

TEST_F(FilesTest, ReadsFilesWithoutASize) {
  EXPECT_NE(read_file("/proc/self/status")->find("VmRSS"), std::string::npos);
  const std::string big(300000, 'q');
  ASSERT_TRUE(write_file_atomic(dir_ + "/big", big).ok());
  EXPECT_EQ(*read_file(dir_ + "/big"), big);
}

TEST_F(FilesTest, MakesFolders) {
  ASSERT_TRUE(mkdir_p(dir_ + "/a/b/c").ok());
  ASSERT_TRUE(mkdir_p(dir_ + "/a/b/c").ok());
  ASSERT_TRUE(write_file_atomic(dir_ + "/file", "").ok());
  EXPECT_FALSE(mkdir_p(dir_ + "/file").ok());
  EXPECT_FALSE(mkdir_p(dir_ + "/file/below").ok());
}

TEST_F(FilesTest, RemoveTreeDoesNotFollowLinks) {
  ASSERT_TRUE(mkdir_p(dir_ + "/keep").ok());
  ASSERT_TRUE(write_file_atomic(dir_ + "/keep/file", "x").ok());
  ASSERT_TRUE(mkdir_p(dir_ + "/gone/deep/er").ok());
  ASSERT_EQ(symlink((dir_ + "/keep").c_str(), (dir_ + "/gone/deep/link").c_str()), 0);
  ASSERT_TRUE(write_file_atomic(dir_ + "/gone/deep/er/file", "x").ok());
  ASSERT_TRUE(remove_tree(dir_ + "/gone/").ok());
  EXPECT_FALSE(exists(dir_ + "/gone"));
  EXPECT_TRUE(exists(dir_ + "/keep/file"));
  EXPECT_TRUE(remove_tree(dir_ + "/gone").ok());
  EXPECT_FALSE(remove_tree(dir_ + "/..").ok());
}

TEST_F(FilesTest, RemoveTreeDoesNotEnterMounts) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
  ASSERT_TRUE(mkdir_p(dir_ + "/precious").ok());
  ASSERT_TRUE(write_file_atomic(dir_ + "/precious/file", "x").ok());
  ASSERT_TRUE(mkdir_p(dir_ + "/tree/mount").ok());
  ASSERT_TRUE(write_file_atomic(dir_ + "/tree/plain", "x").ok());
  const pid_t child = fork();
  if (child == 0) {
    // A bind mount has the device number of what lies around it: only the mount's own id tells.
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) _exit(100);
    if (mount((dir_ + "/precious").c_str(), (dir_ + "/tree/mount").c_str(), nullptr, MS_BIND, nullptr) != 0) _exit(101);
    auto removed = remove_tree(dir_ + "/tree");
    _exit(removed.ok() ? 102 : removed.error().code());
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), EBUSY);
  EXPECT_TRUE(exists(dir_ + "/precious/file"));
  EXPECT_FALSE(exists(dir_ + "/tree/plain")) << "the rest should have been removed";
}

TEST_F(FilesTest, DescriptorsTravel) {
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  UniqueFd a(sockets[0]), b(sockets[1]);
  UniqueFd file(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(send_with_fds(a.get(), "hi", {file.get(), file.get()}).ok());
  char buffer[16];
  std::vector<UniqueFd> fds;
  EXPECT_EQ(*recv_with_fds(b.get(), buffer, sizeof buffer, fds), 2u);
  ASSERT_EQ(fds.size(), 2u);
  EXPECT_NE(fcntl(fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(recv_with_fds(b.get(), buffer, sizeof buffer, fds, MSG_DONTWAIT).error().code(), EAGAIN);
  a.reset();
  EXPECT_EQ(*recv_with_fds(b.get(), buffer, sizeof buffer, fds), 0u);
}

}  // namespace
}  // namespace caisson::host
